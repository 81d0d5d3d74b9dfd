package controller

import (
	"slices"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

// Tail is how far a replica's log goes, as it reported after its recovery.
type Tail struct {
	LastEpoch model.LeaderEpoch
	End       model.Offset
	// CutBytes is what recovery removed from the end.
	CutBytes int64
}

// ahead says whether t is a better start for a leader than o: a later last epoch, then a
// longer log.
func (t Tail) ahead(o Tail) bool {
	if t.LastEpoch != o.LastEpoch {
		return t.LastEpoch > o.LastEpoch
	}
	return t.End > o.End
}

// noLeader is the leader of a partition that has none.
var noLeader = model.Pair{ID: model.NoBroker}

// membership is the part of a partition's state that elections change.
type membership struct {
	isr, elr []model.Pair
	lk       []model.BrokerID
	leader   model.Pair
}

func membershipOf(ps *meta.PartitionState) membership {
	return membership{
		isr: slices.Clone(ps.ISR), elr: slices.Clone(ps.ELR),
		lk: slices.Clone(ps.LastKnown), leader: ps.Leader,
	}
}

// shrink applies the ELR rule: members that leave the ISR while it falls below minISR
// stay eligible, unless their tail is suspect; then they are only known.
func (m *membership) shrink(isr []model.Pair, minISR int32, suspect func(model.Pair) bool) {
	old := *m
	m.isr, m.elr, m.lk = isr, nil, nil
	if len(isr) >= int(minISR) {
		return
	}
	known := slices.Clone(old.lk)
	for _, pair := range slices.Concat(old.elr, old.isr) {
		if !hasID(known, pair.ID) {
			known = append(known, pair.ID)
		}
		if !slices.Contains(isr, pair) && !slices.Contains(m.elr, pair) && !suspect(pair) {
			m.elr = append(m.elr, pair)
		}
	}
	for _, id := range known {
		if !pairHasID(isr, id) && !pairHasID(m.elr, id) {
			m.lk = append(m.lk, id)
		}
	}
}

// elect chooses the leader cleanly: the present one if it may stay, else the first
// replica in the ISR that is active; with an empty ISR the first active member of the ELR,
// which becomes the sole member of the ISR.
func (m *membership) elect(replicas []model.BrokerID, stays, active func(model.Pair) bool) {
	if m.leader != noLeader && slices.Contains(m.isr, m.leader) && stays(m.leader) {
		return
	}
	m.leader = noLeader
	for _, id := range replicas {
		if i := slices.IndexFunc(m.isr, func(p model.Pair) bool { return p.ID == id && active(p) }); i >= 0 {
			m.leader = m.isr[i]
			return
		}
	}
	if len(m.isr) > 0 {
		return
	}
	for _, id := range replicas {
		if i := slices.IndexFunc(m.elr, func(p model.Pair) bool { return p.ID == id && active(p) }); i >= 0 {
			m.leader = m.elr[i]
			m.isr = []model.Pair{m.leader}
			m.elr = slices.Delete(m.elr, i, i+1)
			return
		}
	}
}

// next returns the state with the new membership, nil if that changes nothing. The
// leader epoch grows when the leader changes, also to none.
func (m *membership) next(old *meta.PartitionState, controllerEpoch int64) *meta.PartitionState {
	if len(m.isr) >= int(old.MinISR) {
		m.elr, m.lk = nil, nil
	}
	order := func(a, b model.BrokerID) int { return slices.Index(old.Replicas, a) - slices.Index(old.Replicas, b) }
	byReplica := func(a, b model.Pair) int { return order(a.ID, b.ID) }
	slices.SortStableFunc(m.isr, byReplica)
	slices.SortStableFunc(m.elr, byReplica)
	slices.SortStableFunc(m.lk, order)
	if m.leader == old.Leader && slices.Equal(m.isr, old.ISR) && slices.Equal(m.elr, old.ELR) && slices.Equal(m.lk, old.LastKnown) {
		return nil
	}
	ps := *old
	ps.ISR, ps.ELR, ps.LastKnown = m.isr, m.elr, m.lk
	if ps.ISR == nil {
		ps.ISR = []model.Pair{}
	}
	if m.leader != old.Leader {
		ps.Leader = m.leader
		ps.LeaderEpoch++
	}
	ps.PartitionEpoch++
	ps.ControllerEpoch = controllerEpoch
	return &ps
}

func hasID(ids []model.BrokerID, id model.BrokerID) bool { return slices.Contains(ids, id) }

func pairHasID(pairs []model.Pair, id model.BrokerID) bool {
	return slices.ContainsFunc(pairs, func(p model.Pair) bool { return p.ID == id })
}
