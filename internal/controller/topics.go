package controller

import (
	"slices"
	"strings"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// metricName is what a topic is called where dots and underscores are the same, which
// is why two names that differ only there may not both exist.
func metricName(name string) string { return strings.ReplaceAll(name, ".", "_") }

// placement spreads replicas: it counts what each active broker holds.
type placement struct {
	brokers []model.BrokerID
	load    map[model.BrokerID]int // replicas of all topics
	leads   map[model.BrokerID]int // partitions that prefer it
}

func (p *Planner) newPlacement() *placement {
	pl := &placement{
		brokers: p.activeBrokers(),
		load:    map[model.BrokerID]int{},
		leads:   map[model.BrokerID]int{},
	}
	for id, parts := range p.st.Partitions {
		if r := p.st.Topics[id]; r == nil || r.Status != meta.TopicLive {
			continue
		}
		for _, ps := range parts {
			if ps != nil {
				pl.count(ps.Replicas)
			}
		}
	}
	return pl
}

func (pl *placement) count(replicas []model.BrokerID) {
	for i, id := range replicas {
		pl.load[id]++
		if i == 0 {
			pl.leads[id]++
		}
	}
}

// extend chooses replicas for n more partitions of a topic that has some already. Each partition goes to
// the brokers that hold least of this topic, then least of all, then to the lowest id:
// twelve partitions on three brokers are four each, and many topics of one partition
// spread as well. rf is at most the number of brokers.
func (pl *placement) extend(have []*meta.PartitionState, n, rf int) [][]model.BrokerID {
	own := placement{load: map[model.BrokerID]int{}, leads: map[model.BrokerID]int{}}
	for _, ps := range have {
		own.count(ps.Replicas)
	}
	out := make([][]model.BrokerID, n)
	for i := range out {
		order := slices.Clone(pl.brokers)
		slices.SortStableFunc(order, func(a, b model.BrokerID) int {
			return compareAll(own.leads[a], own.leads[b], pl.leads[a], pl.leads[b], int(a), int(b))
		})
		leader := order[0]
		rest := order[1:]
		slices.SortStableFunc(rest, func(a, b model.BrokerID) int {
			return compareAll(own.load[a], own.load[b], pl.load[a], pl.load[b], int(a), int(b))
		})
		out[i] = append([]model.BrokerID{leader}, rest[:rf-1]...)
		own.count(out[i])
		pl.count(out[i])
	}
	return out
}

// compareAll compares pairs of numbers, the first that differ decide.
func compareAll(pairs ...int) int {
	for i := 0; i < len(pairs); i += 2 {
		if d := pairs[i] - pairs[i+1]; d != 0 {
			return d
		}
	}
	return 0
}

// CreateTopics plans new topics. newID gives ids that were never used. A topic's
// changes stand together and in order; the first errors are in the results.
func (p *Planner) CreateTopics(reqs []meta.NewTopic, newID func() model.TopicID) ([]meta.NewTopicResult, []Change) {
	results := make([]meta.NewTopicResult, len(reqs))
	times := map[string]int{}
	for _, r := range reqs {
		times[r.Name]++
	}
	taken := map[string]string{} // metric name -> name
	for name := range p.st.TopicNames {
		taken[metricName(name)] = name
	}
	pl, q := p.newPlacement(), p.newQuota()
	var changes []Change
	for i, r := range reqs {
		res := &results[i]
		if times[r.Name] > 1 {
			res.Err = kerr.With(kerr.InvalidRequest, "the topic is named more than once in this request")
			continue
		}
		assignment, err := p.checkNewTopic(&r, taken, pl, q)
		if err != nil {
			res.Err = err
			continue
		}
		res.ID = newID()
		res.Partitions = int32(len(assignment))
		res.ReplicationFactor = int16(len(assignment[0]))
		taken[metricName(r.Name)] = r.Name
		changes = append(changes, p.createTopic(r, res, assignment)...)
	}
	return results, changes
}

// checkNewTopic validates one topic, normalizes its config, and returns the replicas of
// its partitions.
func (p *Planner) checkNewTopic(r *meta.NewTopic, taken map[string]string, pl *placement, q *quota) ([][]model.BrokerID, error) {
	if err := meta.CheckTopicName(r.Name); err != nil {
		return nil, err
	}
	if meta.IsInternal(r.Name) && !r.Internal {
		return nil, kerr.With(kerr.InvalidTopicException, "%q is an internal topic: it is created when it is needed", r.Name)
	}
	if p.st.TopicNames[r.Name] != nil {
		return nil, kerr.With(kerr.TopicAlreadyExists, "there is a topic %q already", r.Name)
	}
	if other, ok := taken[metricName(r.Name)]; ok {
		return nil, kerr.With(kerr.InvalidTopicException, "%q cannot be told from the topic %q in names of metrics, where '.' and '_' are the same", r.Name, other)
	}
	conf, err := p.normalizeConfig(meta.ResourceTopic, r.Name, r.Config)
	if err != nil {
		return nil, err
	}
	if err := checkConfigSize(conf); err != nil {
		return nil, err
	}
	r.Config = conf
	if r.Assignment != nil {
		if len(r.Assignment) > int(p.rules.MaxPartitionsPerTopic) {
			return nil, p.tooManyPartitions(len(r.Assignment))
		}
		if err := p.checkAssignment(r.Assignment, 0); err != nil {
			return nil, err
		}
		if err := q.take(len(r.Assignment)); err != nil {
			return nil, err
		}
		pl.countAll(r.Assignment)
		return r.Assignment, nil
	}
	n := r.Partitions
	if n == -1 {
		n = p.rules.DefaultPartitions
	}
	switch {
	case n <= 0:
		return nil, kerr.With(kerr.InvalidPartitions, "a topic needs at least 1 partition")
	case n > p.rules.MaxPartitionsPerTopic:
		return nil, p.tooManyPartitions(int(n))
	}
	rf, err := p.replicationFactor(r.ReplicationFactor, len(pl.brokers))
	if err != nil {
		return nil, err
	}
	if err := q.take(int(n)); err != nil {
		return nil, err
	}
	return pl.extend(nil, int(n), rf), nil
}

func (p *Planner) tooManyPartitions(n int) error {
	return kerr.With(kerr.InvalidPartitions, "%d partitions are more than the %d that one topic may have", n, p.rules.MaxPartitionsPerTopic)
}

func (pl *placement) countAll(assignment [][]model.BrokerID) {
	for _, replicas := range assignment {
		pl.count(replicas)
	}
}

// replicationFactor resolves a wish (-1 for none) against the active brokers.
func (p *Planner) replicationFactor(want int16, brokers int) (int, error) {
	if brokers == 0 {
		return 0, kerr.With(kerr.InvalidReplicationFactor, "no broker is active that could hold partitions")
	}
	if want == -1 {
		if want = p.rules.DefaultReplicationFactor; want == 0 {
			return min(3, brokers, int(p.rules.MaxReplicationFactor)), nil
		}
	}
	switch {
	case want <= 0:
		return 0, kerr.With(kerr.InvalidReplicationFactor, "a topic needs at least 1 copy of each partition")
	case want > p.rules.MaxReplicationFactor:
		return 0, p.tooManyReplicas(int(want))
	case int(want) > brokers:
		return 0, kerr.With(kerr.InvalidReplicationFactor,
			"%d copies of each partition need as many active brokers; there are %d", want, brokers)
	}
	return int(want), nil
}

func (p *Planner) tooManyReplicas(rf int) error {
	if p.rules.MaxReplicationFactor == 1 {
		return kerr.With(kerr.InvalidReplicationFactor,
			"replication factor %d: this version of kalda keeps one copy of each partition; leave the factor unset or give 1", rf)
	}
	return kerr.With(kerr.InvalidReplicationFactor, "replication factor %d is above the largest possible, %d", rf, p.rules.MaxReplicationFactor)
}

// checkAssignment validates replicas that the client chose. rf is the factor that every
// partition must have; 0 means that of the first.
func (p *Planner) checkAssignment(assignment [][]model.BrokerID, rf int) error {
	if len(assignment) == 0 {
		return kerr.With(kerr.InvalidReplicaAssignment, "the replica assignment has no partitions")
	}
	for n, replicas := range assignment {
		if len(replicas) == 0 {
			return kerr.With(kerr.InvalidReplicaAssignment, "the replica assignment names no broker for partition %d", n)
		}
		if rf == 0 {
			rf = len(replicas)
		}
		if len(replicas) != rf {
			return kerr.With(kerr.InvalidReplicaAssignment,
				"the replica assignment gives one partition %d brokers and another %d", len(replicas), rf)
		}
		for i, id := range replicas {
			if slices.Contains(replicas[:i], id) {
				return kerr.With(kerr.InvalidReplicaAssignment, "the replica assignment names broker %d twice for one partition", id)
			}
			if p.st.BrokerStates[id] == nil {
				return kerr.With(kerr.InvalidReplicaAssignment, "the replica assignment names broker %d, which is not registered", id)
			}
		}
		if !slices.ContainsFunc(replicas, func(id model.BrokerID) bool {
			return p.st.BrokerStates[id].Status == meta.BrokerActive
		}) {
			return kerr.With(kerr.InvalidReplicaAssignment, "none of the brokers of partition %d is active", n)
		}
	}
	if rf > int(p.rules.MaxReplicationFactor) {
		return p.tooManyReplicas(rf)
	}
	return nil
}

// newPartition is the first state of a partition: led by the first active replica, all
// active replicas in sync, for there is no data yet.
func (p *Planner) newPartition(replicas []model.BrokerID, config map[string]string) *meta.PartitionState {
	ps := &meta.PartitionState{
		Leader:          model.Pair{ID: model.NoBroker},
		ISR:             []model.Pair{},
		Replicas:        replicas,
		MinISR:          p.minISR(config, len(replicas)),
		FlushPolicy:     p.flushPolicy(config, len(replicas)),
		ControllerEpoch: p.st.ControllerEpoch,
	}
	for _, id := range replicas {
		if s := p.st.BrokerStates[id]; s != nil && s.Status == meta.BrokerActive {
			ps.ISR = append(ps.ISR, s.Pair(id))
		}
	}
	if len(ps.ISR) > 0 {
		ps.Leader = ps.ISR[0]
	}
	return ps
}

// createTopic returns one change if the topic fits into a transaction, else: the name
// is reserved and the intent recorded, the partitions are written, the topic goes live.
func (p *Planner) createTopic(r meta.NewTopic, res *meta.NewTopicResult, assignment [][]model.BrokerID) []Change {
	rec := meta.TopicRecord{
		Name: r.Name, Partitions: res.Partitions, ReplicationFactor: res.ReplicationFactor, Status: meta.TopicLive,
	}
	var parts Change
	for n, replicas := range assignment {
		key := p.keys.Partition(model.Partition{Topic: res.ID, Index: int32(n)})
		parts.put(key, p.newPartition(replicas, r.Config))
	}
	live := p.goLive(res.ID, rec, r.Config)
	if parts.size()+len(live.Writes) <= maxOps {
		live.Writes = append(live.Writes, parts.Writes...)
		return []Change{live}
	}
	var reserve Change
	reserve.put(p.keys.TopicName(r.Name), meta.TopicNameRecord{ID: res.ID, Status: meta.TopicCreating})
	reserve.put(p.keys.Op(opID(res.ID)), meta.OpRecord{Kind: meta.OpCreateTopic, ID: res.ID, Topic: rec, Config: r.Config})
	live.remove(p.keys.Op(opID(res.ID)))
	changes := append([]Change{reserve}, split(parts.Writes)...)
	return append(changes, live)
}

// opID names the intent to create a topic.
func opID(id model.TopicID) string { return meta.OpCreateTopic + "-" + id.String() }

// goLive is the change that makes a topic visible.
func (p *Planner) goLive(id model.TopicID, rec meta.TopicRecord, config map[string]string) Change {
	var c Change
	c.put(p.keys.TopicName(rec.Name), meta.TopicNameRecord{ID: id, Status: meta.TopicLive})
	c.put(p.keys.Topic(id), rec)
	if len(config) > 0 {
		c.put(p.keys.Config(meta.ResourceTopic, rec.Name), meta.ConfigRecord{Config: config})
	}
	return c
}

// DeleteTopics plans the end of topics. One change hides the topic and leaves the
// tombstone on which brokers delete data; Reconcile removes the partitions later. nowMs
// is calendar time.
func (p *Planner) DeleteTopics(ids []model.TopicID, nowMs int64) ([]error, []Change) {
	errs := make([]error, len(ids))
	var changes []Change
	for i, id := range ids {
		r := p.st.Topics[id]
		switch {
		case slices.Index(ids, id) != i:
			errs[i] = kerr.With(kerr.InvalidRequest, "the topic id is given more than once in this request")
			continue
		case r == nil || r.Status != meta.TopicLive:
			errs[i] = kerr.With(kerr.UnknownTopicID, "no topic has the id %s", id)
			continue
		}
		rec := *r
		rec.Status = meta.TopicDeleting
		var c Change
		c.remove(p.keys.TopicName(r.Name))
		c.put(p.keys.Topic(id), rec)
		c.put(p.keys.Tombstone(id), meta.TombstoneRecord{Name: r.Name, Partitions: r.Partitions, DeletedMs: nowMs})
		if p.st.Config(meta.ResourceTopic, r.Name) != nil {
			c.remove(p.keys.Config(meta.ResourceTopic, r.Name)) // a new topic of that name starts without
		}
		changes = append(changes, c)
	}
	return errs, changes
}

// CreatePartitions plans more partitions. They are written first and counted last, so
// that no broker sees some of them.
func (p *Planner) CreatePartitions(reqs []meta.MorePartitions) ([]error, []Change) {
	errs := make([]error, len(reqs))
	times := map[string]int{}
	for _, r := range reqs {
		times[r.Topic]++
	}
	pl, q := p.newPlacement(), p.newQuota()
	var changes []Change
	for i, r := range reqs {
		if times[r.Topic] > 1 {
			errs[i] = kerr.With(kerr.InvalidRequest, "the topic is named more than once in this request")
			continue
		}
		cs, err := p.createPartitions(r, pl, q)
		errs[i] = err
		changes = append(changes, cs...)
	}
	return errs, changes
}

func (p *Planner) createPartitions(r meta.MorePartitions, pl *placement, q *quota) ([]Change, error) {
	name := p.st.TopicNames[r.Topic]
	if name == nil || name.Status != meta.TopicLive {
		return nil, kerr.With(kerr.UnknownTopicOrPartition, "there is no topic %q", r.Topic)
	}
	rec := *p.st.Topics[name.ID]
	add := int(r.Count - rec.Partitions)
	switch {
	case add == 0:
		return nil, kerr.With(kerr.InvalidPartitions, "the topic has %d partitions already", r.Count)
	case r.Count < rec.Partitions:
		return nil, kerr.With(kerr.InvalidPartitions,
			"topic %s has %d partitions; %d would not be more", r.Topic, rec.Partitions, r.Count)
	case r.Count > p.rules.MaxPartitionsPerTopic:
		return nil, p.tooManyPartitions(int(r.Count))
	}
	rf := int(rec.ReplicationFactor)
	assignment := r.Assignment
	if assignment != nil {
		if len(assignment) != add {
			return nil, kerr.With(kerr.InvalidReplicaAssignment,
				"%d partitions are to be added, but %d are assigned", add, len(assignment))
		}
		if err := p.checkAssignment(assignment, rf); err != nil {
			return nil, err
		}
		if err := q.take(add); err != nil {
			return nil, err
		}
		pl.countAll(assignment)
	} else {
		if rf > len(pl.brokers) {
			return nil, kerr.With(kerr.InvalidReplicationFactor,
				"%d copies of each partition need as many active brokers; there are %d", rf, len(pl.brokers))
		}
		if err := q.take(add); err != nil {
			return nil, err
		}
		assignment = pl.extend(p.st.Partitions[name.ID][:rec.Partitions], add, rf)
	}
	var parts Change
	config := p.st.Config(meta.ResourceTopic, r.Topic)
	for n, replicas := range assignment {
		key := p.keys.Partition(model.Partition{Topic: name.ID, Index: rec.Partitions + int32(n)})
		parts.put(key, p.newPartition(replicas, config))
	}
	rec.Partitions = r.Count
	if parts.size() < maxOps {
		parts.put(p.keys.Topic(name.ID), rec)
		return []Change{parts}, nil
	}
	var count Change
	count.put(p.keys.Topic(name.ID), rec)
	return append(split(parts.Writes), count), nil
}
