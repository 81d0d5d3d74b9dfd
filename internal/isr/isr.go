//kalda:core

// Package isr decides, for one partition, how far the log is committed.
//
//	log start            high watermark            log end
//	    |------ committed -------|---- not yet --------|
//	    [==== consumers read ====)
//	    [================ followers read ==============)
//
// The leader feeds it what happened: its own log grew (Appended), its own disk vouches
// for more (Acked), a follower asked from an offset (Fetched), the controller changed
// the in-sync set (Update). State answers with the high watermark. With replication
// factor 1 the in-sync set is the leader alone and the watermark is its own position;
// nothing else differs.
//
// Invariants (check tests them after every step and panics, since going on could
// acknowledge what may be lost):
//
//  1. high watermark <= log end; the leader's ack position <= log end.
//  2. The high watermark never falls while one leader epoch lasts.
//  3. Every in-sync replica vouches for all records below the high watermark that
//     were committed in this epoch.
//  4. The high watermark does not move while the in-sync set is smaller than
//     min.insync.replicas.
//
// State is a pure core: no goroutine, lock, clock, disk or socket. It is not safe for
// concurrent use; its owner is replica.Partition.
package isr

import (
	"fmt"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
)

// Role is what this broker does for the partition.
type Role uint8

// The roles. A partition that this broker neither leads nor follows has RoleNone.
const (
	RoleNone Role = iota
	RoleLeader
	RoleFollower
)

// View is what the controller says of the partition: the part of its state that the
// rules here depend on.
type View struct {
	LeaderEpoch    model.LeaderEpoch
	PartitionEpoch model.PartitionEpoch
	// ISR is the committed in-sync set, the leader included.
	ISR []model.Pair
	// Replicas are the ids that hold or shall hold the partition.
	Replicas []model.BrokerID
	// MinISR is the effective min.insync.replicas, at least 1.
	MinISR int
}

// follower is what the leader knows of one other replica in this leader epoch. A
// pair's position never counts for another pair of the same id.
type follower struct {
	pair   model.Pair
	end    model.Offset // it holds everything below
	ackPos model.Offset // it vouches for everything below; <= end
}

// State is the commit state of one partition on one broker. The zero value has
// RoleNone and nothing committed.
type State struct {
	role      Role
	self      model.Pair
	view      View
	start     model.Offset // log end when this epoch's leadership began
	end       model.Offset
	ackPos    model.Offset
	hw        model.Offset
	followers []follower
}

// Lead makes self the leader for view.LeaderEpoch. The log ends at end, the leader
// vouches for everything below ackPos, and hw is the watermark known so far. All
// follower positions are forgotten. A view whose partition epoch is older than the
// known one is ignored (false).
func (s *State) Lead(self model.Pair, view View, end, ackPos, hw model.Offset) bool {
	if s.stale(view) {
		return false
	}
	if s.role == RoleLeader && s.view.LeaderEpoch == view.LeaderEpoch && s.self == self {
		s.view = view
		s.advance()
		return true
	}
	*s = State{
		role: RoleLeader, self: self, view: view,
		start: end, end: end, ackPos: ackPos, hw: min(max(hw, s.hw), end),
	}
	s.advance()
	return true
}

// Follow makes this broker a follower for view.LeaderEpoch; what it knew as a leader
// is forgotten.
func (s *State) Follow(self model.Pair, view View, end, hw model.Offset) bool {
	if s.stale(view) {
		return false
	}
	*s = State{role: RoleFollower, self: self, view: view, end: end, ackPos: end, hw: min(max(hw, s.hw), end)}
	return true
}

// Resign drops the role, for example when the partition is leaderless or went offline.
// The watermark is kept.
func (s *State) Resign() { s.role = RoleNone; s.followers = nil }

func (s *State) stale(v View) bool {
	return s.role != RoleNone && (v.LeaderEpoch < s.view.LeaderEpoch || v.PartitionEpoch < s.view.PartitionEpoch)
}

// Role returns the current role.
func (s *State) Role() Role { return s.role }

// LeaderEpoch returns the epoch of the role.
func (s *State) LeaderEpoch() model.LeaderEpoch { return s.view.LeaderEpoch }

// HighWatermark is the exclusive end of the committed prefix.
func (s *State) HighWatermark() model.Offset { return s.hw }

// AckPos is the offset below which the leader itself vouches for every record; acks=1
// waits for it.
func (s *State) AckPos() model.Offset { return s.ackPos }

// EpochStart is the log end at which this leader epoch began. Until the watermark
// reaches it the latest offset is not known for sure.
func (s *State) EpochStart() model.Offset { return s.start }

// EnoughReplicas says whether the in-sync set has at least min.insync.replicas
// members; if not, acks=all is refused.
func (s *State) EnoughReplicas() bool { return len(s.view.ISR) >= s.view.MinISR }

// Alone says that the leader is the only in-sync replica: what it vouches for is committed.
func (s *State) Alone() bool {
	return s.role == RoleLeader && len(s.view.ISR) == 1 && s.view.ISR[0] == s.self
}

// Appended tells that the leader's own log now ends at end.
func (s *State) Appended(end model.Offset) {
	if end < s.end {
		panic(fmt.Sprintf("isr: log end went back from %d to %d in epoch %d", s.end, end, s.view.LeaderEpoch))
	}
	s.end = end
}

// Acked tells that the leader itself vouches for everything below pos (with flush
// policy os: once written; with commit: once on stable storage). It reports whether the
// watermark moved.
func (s *State) Acked(pos model.Offset) bool {
	if pos > s.end {
		panic(fmt.Sprintf("isr: ack position %d above log end %d", pos, s.end))
	}
	if pos <= s.ackPos {
		return false
	}
	s.ackPos = pos
	return s.advance()
}

// Fetched tells that pair fetches from offset (so it holds everything below) and
// vouches for everything below ackPos. Positions of pairs that are no replicas, or of
// a pair older than the one known for that id, change nothing. It reports whether the
// watermark moved.
func (s *State) Fetched(pair model.Pair, offset, ackPos model.Offset) bool {
	if s.role != RoleLeader || pair.ID == s.self.ID || offset > s.end || !slices.Contains(s.view.Replicas, pair.ID) {
		return false
	}
	ackPos = min(ackPos, offset)
	i := slices.IndexFunc(s.followers, func(f follower) bool { return f.pair.ID == pair.ID })
	switch {
	case i < 0:
		s.followers = append(s.followers, follower{pair: pair, end: offset, ackPos: ackPos})
	case s.followers[i].pair.Epoch > pair.Epoch:
		return false
	default:
		s.followers[i] = follower{pair: pair, end: offset, ackPos: ackPos}
	}
	return s.advance()
}

// advance recomputes the watermark: the smallest position over the in-sync set, never
// back, and only with enough replicas in sync.
func (s *State) advance() bool {
	if s.role != RoleLeader || !s.EnoughReplicas() {
		return false
	}
	low := s.end
	for _, p := range s.view.ISR {
		low = min(low, s.position(p))
	}
	if low <= s.hw {
		return false
	}
	s.hw = low
	s.check()
	return true
}

// position is what an in-sync pair vouches for; a pair that was not heard in this
// epoch vouches for nothing.
func (s *State) position(p model.Pair) model.Offset {
	if p == s.self {
		return s.ackPos
	}
	for i := range s.followers {
		if s.followers[i].pair == p {
			return s.followers[i].ackPos
		}
	}
	return 0
}

func (s *State) check() {
	if s.hw > s.end || s.ackPos > s.end {
		panic(fmt.Sprintf("isr: hw %d or ack position %d above log end %d", s.hw, s.ackPos, s.end))
	}
}

// String prints the state on one line, for logs and scripts.
func (s *State) String() string {
	role := [...]string{"none", "leader", "follower"}[s.role]
	return fmt.Sprintf("%s epoch=%d hw=%d ack=%d leo=%d", role, s.view.LeaderEpoch, s.hw, s.ackPos, s.end)
}
