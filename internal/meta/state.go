package meta

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kalda-io/kalda/internal/model"
)

// pageKeys is how many keys Load asks for at a time.
const pageKeys = 500

// State is everything that the ensemble holds for one cluster, decoded, at one
// revision. Publisher keeps one to make Images from; the controller keeps one to plan
// on. It belongs to one goroutine. The maps are for reading only; what they point to is
// never changed, only replaced.
//
// Changes come in by Load (a snapshot, compared with what is there) and Apply (whole
// revisions of a watch); Image then returns an image that shares whatever did not
// change with the one before.
type State struct {
	Generation *Generation
	// Controller is nil when nobody is elected; ControllerEpoch is then 0.
	Controller      *ControllerRecord
	ControllerEpoch int64
	// Registrations are the brokers whose lease lives.
	Registrations map[model.BrokerID]*Registration
	BrokerStates  map[model.BrokerID]*BrokerState
	TopicNames    map[string]*TopicNameRecord
	Topics        map[model.TopicID]*TopicRecord
	Tombstones    map[model.TopicID]*TombstoneRecord
	// Partitions are the states of each topic id by index, live or not. An index whose
	// key does not exist is nil.
	Partitions map[model.TopicID][]*PartitionState
	Configs    map[ConfigName]*ConfigRecord
	Features   map[string]*FeatureRecord
	Ops        map[string]*OpRecord

	keys     Keys
	revision int64
	entries  map[string]entry

	image       *Image
	dirtyTopics map[model.TopicID]bool
	dirty       bool // anything else that an Image shows
}

// ConfigName names the resource of a config record.
type ConfigName struct {
	Kind ResourceKind
	Name string
}

// entry is what State keeps of a key beside its decoded value.
type entry struct {
	mod   int64
	extra Extra
}

// NewState returns the state of an empty ensemble.
func NewState(keys Keys) *State {
	return &State{
		Registrations: map[model.BrokerID]*Registration{},
		BrokerStates:  map[model.BrokerID]*BrokerState{},
		TopicNames:    map[string]*TopicNameRecord{},
		Topics:        map[model.TopicID]*TopicRecord{},
		Tombstones:    map[model.TopicID]*TombstoneRecord{},
		Partitions:    map[model.TopicID][]*PartitionState{},
		Configs:       map[ConfigName]*ConfigRecord{},
		Features:      map[string]*FeatureRecord{},
		Ops:           map[string]*OpRecord{},
		keys:          keys,
		entries:       map[string]entry{},
		image:         EmptyImage(),
		dirtyTopics:   map[model.TopicID]bool{},
	}
}

// Keys returns the key layout that the state was made with.
func (s *State) Keys() Keys { return s.keys }

// Revision is the ensemble's revision that the state contains, whole.
func (s *State) Revision() int64 { return s.revision }

// ModRevision is the revision of a key's latest write, 0 if it does not exist.
func (s *State) ModRevision(key string) int64 { return s.entries[key].mod }

// Extra returns the unknown fields of a key's value, to be kept when it is rewritten.
func (s *State) Extra(key string) Extra { return s.entries[key].extra }

// Load reads the whole cluster at one revision and applies what differs. It returns how many
// keys did: at a revision that the watch had already brought, that is how many
// events were lost.
func (s *State) Load(ctx context.Context, store Store) (int, error) {
	snap, err := snapshot(ctx, store, s.keys.Prefix(), 0)
	if err != nil {
		return 0, err
	}
	return s.applySnapshot(snap)
}

// Audit compares the state with the ensemble at the state's own revision and returns how many keys
// differ. ErrCompacted when that revision is gone; nothing is applied.
func (s *State) Audit(ctx context.Context, store Store) (int, error) {
	snap, err := snapshot(ctx, store, s.keys.Prefix(), s.revision)
	if err != nil {
		return 0, err
	}
	return len(s.diff(snap)), nil
}

// keySnapshot is every key of a prefix at one revision.
type keySnapshot struct {
	revision int64
	kvs      []KV
}

// snapshot reads all keys of a prefix page by page, at revision or, when that is 0, at
// the present; then it starts again when its revision is compacted under way.
func snapshot(ctx context.Context, store Store, prefix string, revision int64) (keySnapshot, error) {
	snap := keySnapshot{revision: revision}
	after := ""
	for {
		page, err := store.Range(ctx, prefix, after, pageKeys, snap.revision)
		if err != nil {
			if revision == 0 && snap.revision != 0 && isCompacted(err) {
				snap, after = keySnapshot{}, ""
				continue
			}
			return snap, fmt.Errorf("load %s: %w", prefix, err)
		}
		snap.revision = page.Revision
		snap.kvs = append(snap.kvs, page.KVs...)
		if !page.More {
			return snap, nil
		}
		after = page.KVs[len(page.KVs)-1].Key
	}
}

// diff returns the events that lead from the state to the snapshot.
func (s *State) diff(snap keySnapshot) []Event {
	var events []Event
	present := make(map[string]bool, len(snap.kvs))
	for _, kv := range snap.kvs {
		present[kv.Key] = true
		if s.entries[kv.Key].mod != kv.ModRevision {
			events = append(events, Event{KV: kv})
		}
	}
	for key := range s.entries {
		if !present[key] {
			events = append(events, Event{KV: KV{Key: key, ModRevision: snap.revision}, Deleted: true})
		}
	}
	return events
}

func (s *State) applySnapshot(snap keySnapshot) (int, error) {
	if snap.revision < s.revision {
		// Reads are linearizable, so only a restored ensemble can do this.
		return 0, &unreadable{fmt.Errorf("meta: the ensemble went back from revision %d to %d", s.revision, snap.revision)}
	}
	events := s.diff(snap)
	for _, e := range events {
		if err := s.applyEvent(e); err != nil {
			return 0, &unreadable{err}
		}
	}
	s.revision = snap.revision
	return len(events), nil
}

// Apply applies one whole revision; one that the state already contains changes nothing.
// An error means that a value cannot be read: the state must not be used further.
func (s *State) Apply(rev Revision) error {
	if rev.Revision <= s.revision {
		return nil
	}
	for _, e := range rev.Events {
		if err := s.applyEvent(e); err != nil {
			return &unreadable{err}
		}
	}
	s.revision = rev.Revision
	return nil
}

// applyEvent routes one key to the map that it belongs to. Keys of a kind that this
// version does not know are remembered, not decoded.
func (s *State) applyEvent(e Event) error {
	rest, ok := strings.CutPrefix(e.Key, s.keys.prefix)
	if !ok {
		return fmt.Errorf("meta: key %s is outside of %s", e.Key, s.keys.prefix)
	}
	extra, err := s.applyKey(rest, e)
	if err != nil {
		return fmt.Errorf("meta: key %s: %w", e.Key, err)
	}
	if e.Deleted {
		delete(s.entries, e.Key)
	} else {
		s.entries[e.Key] = entry{mod: e.ModRevision, extra: extra}
	}
	return nil
}

func (s *State) applyKey(rest string, e Event) (Extra, error) {
	kind, name, _ := cutKind(rest)
	switch kind {
	case "meta/generation":
		s.dirty = true
		return put(e, &s.Generation)
	case "controller":
		s.dirty = true
		s.ControllerEpoch = e.CreateRevision // 0 when deleted
		return put(e, &s.Controller)
	case "brokers/reg/":
		id, err := brokerID(name)
		if err != nil {
			return nil, err
		}
		s.dirty = true
		extra, err := putMap(e, s.Registrations, id)
		if r := s.Registrations[id]; err == nil && r != nil {
			if r.Epoch = r.CarriedEpoch; r.Epoch == 0 {
				r.Epoch = model.BrokerEpoch(e.CreateRevision)
			}
		}
		return extra, err
	case "brokers/state/":
		id, err := brokerID(name)
		if err != nil {
			return nil, err
		}
		s.dirty = true
		return putMap(e, s.BrokerStates, id)
	case "topics/name/":
		n, ok := DecodeName(name)
		if !ok {
			return nil, fmt.Errorf("not an encoded name")
		}
		s.dirtyName(n)
		extra, err := putMap(e, s.TopicNames, n)
		s.dirtyName(n)
		return extra, err
	case "topics/id/":
		id, err := model.ParseTopicID(name)
		if err != nil {
			return nil, err
		}
		s.dirtyTopics[id] = true
		return putMap(e, s.Topics, id)
	case "topics/tomb/":
		id, err := model.ParseTopicID(name)
		if err != nil {
			return nil, err
		}
		s.dirty = true
		return putMap(e, s.Tombstones, id)
	case "parts/":
		return s.applyPartition(name, e)
	case "config/":
		return s.applyConfig(name, e)
	case "features/":
		n, ok := DecodeName(name)
		if !ok {
			return nil, fmt.Errorf("not an encoded name")
		}
		s.dirty = true
		return putMap(e, s.Features, n)
	case "ops/":
		n, ok := DecodeName(name)
		if !ok {
			return nil, fmt.Errorf("not an encoded name")
		}
		return putMap(e, s.Ops, n)
	}
	return nil, nil
}

// cutKind splits a key behind the cluster's prefix into its range and the rest.
func cutKind(rest string) (kind, name string, ok bool) {
	for _, p := range [...]string{
		"parts/", "brokers/reg/", "brokers/state/", "topics/name/", "topics/id/",
		"topics/tomb/", "config/", "features/", "ops/",
	} {
		if n, found := strings.CutPrefix(rest, p); found {
			return p, n, true
		}
	}
	return rest, "", false
}

func brokerID(s string) (model.BrokerID, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("broker id %q is not a number from 0 to 2147483647", s)
	}
	return model.BrokerID(n), nil
}

// put replaces *p by the event's value, nil for a deletion.
func put[T any](e Event, p **T) (Extra, error) {
	if e.Deleted {
		*p = nil
		return nil, nil
	}
	v := new(T)
	extra, err := DecodeValue(e.Value, v)
	if err != nil {
		return extra, err
	}
	if c, ok := any(v).(checked); ok {
		if err := c.check(); err != nil {
			return extra, err
		}
	}
	*p = v
	return extra, nil
}

// putMap replaces one element of a map by the event's value.
func putMap[K comparable, T any](e Event, m map[K]*T, k K) (Extra, error) {
	var v *T
	extra, err := put(e, &v)
	switch {
	case err != nil:
	case v == nil:
		delete(m, k)
	default:
		m[k] = v
	}
	return extra, err
}

// dirtyName marks the topic that a name stands for.
func (s *State) dirtyName(name string) {
	if r := s.TopicNames[name]; r != nil {
		s.dirtyTopics[r.ID] = true
	}
}

func (s *State) applyPartition(name string, e Event) (Extra, error) {
	idText, indexText, _ := strings.Cut(name, "/")
	id, err := model.ParseTopicID(idText)
	if err != nil {
		return nil, err
	}
	index, err := strconv.ParseInt(indexText, 10, 32)
	if err != nil || index < 0 || index >= MaxPartitions {
		return nil, fmt.Errorf("partition %q is not a number from 0 to %d", indexText, MaxPartitions-1)
	}
	var p *PartitionState
	extra, err := put(e, &p)
	if err != nil {
		return nil, err
	}
	s.dirtyTopics[id] = true
	parts := s.Partitions[id]
	for int(index) >= len(parts) && p != nil {
		parts = append(parts, nil)
	}
	if int(index) < len(parts) {
		parts[index] = p
	}
	for len(parts) > 0 && parts[len(parts)-1] == nil {
		parts = parts[:len(parts)-1]
	}
	if len(parts) == 0 {
		delete(s.Partitions, id)
	} else {
		s.Partitions[id] = parts
	}
	return extra, nil
}

func (s *State) applyConfig(name string, e Event) (Extra, error) {
	kindText, encoded, _ := strings.Cut(name, "/")
	var kind ResourceKind
	for _, k := range [...]ResourceKind{ResourceTopic, ResourceBroker, ResourceGroup} {
		if k.String() == kindText {
			kind = k
		}
	}
	if kind == 0 {
		return nil, nil // a kind of a later version
	}
	n, ok := DecodeName(encoded)
	if !ok {
		return nil, fmt.Errorf("not an encoded name")
	}
	if kind == ResourceTopic {
		s.dirtyName(n)
	} else {
		s.dirty = true
	}
	return putMap(e, s.Configs, ConfigName{kind, n})
}

// Config returns the dynamic configs of a resource; nil when it has none.
func (s *State) Config(kind ResourceKind, name string) map[string]string {
	if r := s.Configs[ConfigName{kind, name}]; r != nil {
		return r.Config
	}
	return nil
}

// LivePair returns the life of a broker that the controller counts as present (active
// or draining), and whether there is one.
func (s *State) LivePair(id model.BrokerID) (model.Pair, bool) {
	st := s.BrokerStates[id]
	if st == nil || st.Status == BrokerFenced {
		return model.Pair{}, false
	}
	return st.Pair(id), true
}

// Image returns the state as an Image. The same pointer comes back as long as nothing
// changed; the revision alone is a change.
func (s *State) Image() *Image {
	if s.image.Revision == s.revision && !s.dirty && len(s.dirtyTopics) == 0 {
		return s.image
	}
	im := *s.image
	im.Revision = s.revision
	if s.dirty {
		s.imageOthers(&im)
		s.dirty = false
	}
	if len(s.dirtyTopics) > 0 {
		s.imageTopics(&im)
		clear(s.dirtyTopics)
	}
	s.image = &im
	return s.image
}

// imageTopics replaces the topics that changed. The maps are copied, the topics that did
// not change are shared.
func (s *State) imageTopics(im *Image) {
	names, ids := maps.Clone(im.Topics), maps.Clone(im.TopicsByID)
	for id := range s.dirtyTopics { // all removals first: a name may have a new id
		if old := ids[id]; old != nil {
			delete(ids, id)
			delete(names, old.Name)
		}
	}
	for id := range s.dirtyTopics {
		if t := s.imageTopic(id); t != nil {
			ids[id], names[t.Name] = t, t
		}
	}
	im.Topics, im.TopicsByID = names, ids
}

// imageTopic returns a topic as Images show it, nil unless it is live and whole.
func (s *State) imageTopic(id model.TopicID) *Topic {
	r := s.Topics[id]
	if r == nil || r.Status != TopicLive {
		return nil
	}
	n := s.TopicNames[r.Name]
	parts := s.Partitions[id]
	if n == nil || n.ID != id || n.Status != TopicLive || len(parts) < int(r.Partitions) {
		return nil
	}
	parts = slices.Clone(parts[:r.Partitions])
	if slices.Contains(parts, nil) {
		return nil
	}
	config := s.Config(ResourceTopic, r.Name)
	if config == nil {
		config = map[string]string{}
	}
	return &Topic{ID: id, Name: r.Name, Partitions: parts, Config: config}
}

// imageOthers rebuilds the small parts of an image.
func (s *State) imageOthers(im *Image) {
	im.ClusterID = ""
	if s.Generation != nil {
		im.ClusterID = s.Generation.ClusterID
	}
	im.Controller, im.ControllerEpoch = model.NoBroker, s.ControllerEpoch
	if s.Controller != nil {
		im.Controller = s.Controller.Broker
	}
	im.Brokers = make(map[model.BrokerID]*Broker, len(s.BrokerStates))
	for id, r := range s.Registrations {
		im.Brokers[id] = &Broker{
			ID: id, Epoch: r.Epoch, Incarnation: r.Incarnation,
			Status: BrokerFenced, Rack: r.Rack, Endpoints: r.Endpoints,
		}
	}
	for id, st := range s.BrokerStates {
		if b := im.Brokers[id]; b != nil && b.Epoch != st.Epoch && st.Status == BrokerFenced {
			continue // a new life that is not admitted yet
		}
		im.Brokers[id] = &Broker{
			ID: id, Epoch: st.Epoch, Incarnation: st.Incarnation,
			Status: st.Status, Rack: st.Rack, Endpoints: st.Endpoints,
		}
	}
	im.Tombstones = make(map[model.TopicID]string, len(s.Tombstones))
	for id, t := range s.Tombstones {
		im.Tombstones[id] = t.Name
	}
	im.BrokerConfigs, im.GroupConfigs = map[string]map[string]string{}, map[string]map[string]string{}
	for n, r := range s.Configs {
		switch n.Kind {
		case ResourceBroker:
			im.BrokerConfigs[n.Name] = r.Config
		case ResourceGroup:
			im.GroupConfigs[n.Name] = r.Config
		}
	}
	im.Features = make(map[string]int16, len(s.Features))
	for name, f := range s.Features {
		im.Features[name] = f.Level
	}
}

// IsUnreadable says whether err means that the ensemble holds something that this
// version cannot read, or went back in time: trying again does not help.
func IsUnreadable(err error) bool {
	var u *unreadable
	return errors.As(err, &u)
}
