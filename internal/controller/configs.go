package controller

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/kerr"
)

// normalizeConfig returns a config with every value in the form in which it is kept; the
// first bad value, in the order of keys, is the error.
func (p *Planner) normalizeConfig(kind meta.ResourceKind, name string, config map[string]string) (map[string]string, error) {
	if p.rules.Config.Normalize == nil || len(config) == 0 {
		return config, nil
	}
	out := make(map[string]string, len(config))
	for _, key := range slices.Sorted(maps.Keys(config)) {
		v, err := p.rules.Config.Normalize(kind, name, key, config[key])
		if err != nil {
			return nil, invalidConfig(err)
		}
		out[key] = v
	}
	if kind == meta.ResourceTopic && p.rules.Config.Check != nil {
		if err := p.rules.Config.Check(out); err != nil {
			return nil, invalidConfig(err)
		}
	}
	return out, nil
}

// invalidConfig makes a protocol error of what a validator says.
func invalidConfig(err error) error {
	var known *kerr.Error
	if errors.As(err, &known) {
		return err
	}
	return kerr.With(kerr.InvalidConfig, "%s", err.Error())
}

// AlterConfigs plans changes of dynamic configs, each resource all or nothing. What
// follows from them for partitions is Reconcile's to find.
func (p *Planner) AlterConfigs(reqs []meta.ConfigChange) ([]error, []Change) {
	errs := make([]error, len(reqs))
	times := map[meta.ConfigName]int{}
	for _, r := range reqs {
		times[meta.ConfigName{Kind: r.Kind, Name: r.Name}]++
	}
	var changes []Change
	for i, r := range reqs {
		if times[meta.ConfigName{Kind: r.Kind, Name: r.Name}] > 1 {
			errs[i] = kerr.With(kerr.InvalidRequest, "the resource is named more than once in this request")
			continue
		}
		next, err := p.alterConfig(r)
		if err != nil {
			errs[i] = err
			continue
		}
		key := p.keys.Config(r.Kind, r.Name)
		var c Change
		switch old := p.st.Config(r.Kind, r.Name); {
		case maps.Equal(old, next):
			continue
		case len(next) == 0:
			c.remove(key)
		default:
			c.put(key, meta.ConfigRecord{Config: next})
		}
		changes = append(changes, c)
	}
	return errs, changes
}

// alterConfig returns the new config of one resource.
func (p *Planner) alterConfig(r meta.ConfigChange) (map[string]string, error) {
	if err := p.checkResource(r); err != nil {
		return nil, err
	}
	next := map[string]string{}
	if !r.Replace {
		next = maps.Clone(p.st.Config(r.Kind, r.Name))
		if next == nil {
			next = map[string]string{}
		}
	}
	touched := map[string]bool{}
	for _, op := range r.Ops {
		if touched[op.Key] {
			return nil, kerr.With(kerr.InvalidRequest, "config %s is given more than once", op.Key)
		}
		touched[op.Key] = true
		if err := p.applyConfigOp(r.Kind, next, op); err != nil {
			return nil, err
		}
	}
	if r.Kind == meta.ResourceTopic && meta.IsInternal(r.Name) {
		// Without it the default would hold, which deletes; what would go are groups.
		if was, ok := p.st.Config(r.Kind, r.Name)[keyCleanupPolicy]; ok && next[keyCleanupPolicy] == "" {
			return nil, kerr.With(kerr.InvalidConfig, "%s of the internal topic %s stays %s", keyCleanupPolicy, r.Name, was)
		}
	}
	// Only what the request touches is checked: a value that an older version accepted
	// must not stand in the way of changing another.
	for key := range touched {
		v, ok := next[key]
		if !ok || p.rules.Config.Normalize == nil {
			continue
		}
		v, err := p.rules.Config.Normalize(r.Kind, r.Name, key, v)
		if err != nil {
			return nil, invalidConfig(err)
		}
		next[key] = v
	}
	if check := p.rules.Config.Check; r.Kind == meta.ResourceTopic && check != nil {
		if err := check(next); err != nil && check(p.st.Config(r.Kind, r.Name)) == nil {
			return nil, invalidConfig(err)
		}
	}
	return next, checkConfigSize(next)
}

// checkResource says whether the resource can have a config.
func (p *Planner) checkResource(r meta.ConfigChange) error {
	switch r.Kind {
	case meta.ResourceTopic:
		if n := p.st.TopicNames[r.Name]; n == nil || n.Status != meta.TopicLive {
			return kerr.With(kerr.UnknownTopicOrPartition, "there is no topic %q", r.Name)
		}
	case meta.ResourceBroker:
		if r.Name == "" {
			return nil
		}
		for id := range p.st.BrokerStates {
			if r.Name == strconv.Itoa(int(id)) {
				return nil
			}
		}
		return kerr.With(kerr.BrokerIDNotRegistered, "no broker %s is registered", r.Name)
	case meta.ResourceGroup:
		if r.Name == "" {
			return kerr.With(kerr.InvalidRequest, "a group's configuration needs the group's name")
		}
	default:
		return kerr.With(kerr.InvalidRequest, "resources of type %d have no configuration to change", int8(r.Kind))
	}
	return nil
}

// applyConfigOp applies one operation (KIP-339).
func (p *Planner) applyConfigOp(kind meta.ResourceKind, config map[string]string, op meta.ConfigOpEntry) error {
	if op.Op == meta.ConfigDelete {
		delete(config, op.Key)
		return nil
	}
	if op.Value == nil {
		return kerr.With(kerr.InvalidRequest, "config %s has no value, which only a deletion may lack", op.Key)
	}
	switch op.Op {
	case meta.ConfigSet:
		config[op.Key] = *op.Value
		return nil
	case meta.ConfigAppend, meta.ConfigSubtract:
	default:
		return kerr.With(kerr.InvalidRequest, "operation %d on a config is not known", int8(op.Op))
	}
	verb := "APPEND to"
	if op.Op == meta.ConfigSubtract {
		verb = "SUBTRACT from"
	}
	if p.rules.Config.List == nil || !p.rules.Config.List(kind, op.Key) {
		return kerr.With(kerr.InvalidConfig, "cannot %s config %s: it is not a list", verb, op.Key)
	}
	value, ok := config[op.Key]
	if !ok && p.rules.Config.Default != nil {
		value = p.rules.Config.Default(kind, op.Key)
	}
	items, given := listItems(value), listItems(*op.Value)
	named := map[string]bool{} // both lists may be long
	if op.Op == meta.ConfigAppend {
		for _, i := range items {
			named[i] = true
		}
		for _, g := range given {
			if !named[g] {
				named[g] = true
				items = append(items, g)
			}
		}
	} else {
		for _, g := range given {
			named[g] = true
		}
		items = slices.DeleteFunc(items, func(s string) bool { return named[s] })
	}
	config[op.Key] = strings.Join(items, ",")
	return nil
}

// listItems splits a list value.
func listItems(s string) []string {
	var items []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// UpdateFeatures plans finalized feature levels (KIP-584).
func (p *Planner) UpdateFeatures(reqs []meta.FeatureUpdate) ([]error, []Change) {
	errs := make([]error, len(reqs))
	var changes []Change
	seen := map[string]bool{}
	for i, r := range reqs {
		known, ok := p.rules.Features[r.Name]
		var level int16
		if f := p.st.Features[r.Name]; f != nil {
			level = f.Level
		}
		switch {
		case seen[r.Name]:
			errs[i] = kerr.With(kerr.InvalidRequest, "feature %s is named more than once", r.Name)
		case !ok:
			errs[i] = kerr.With(kerr.InvalidUpdateVersion, "feature %s is not known here", r.Name)
		case r.Level != 0 && (r.Level < known.Min || r.Level > known.Max):
			errs[i] = kerr.With(kerr.InvalidUpdateVersion,
				"Level %d of feature %s is not supported: this version supports %d to %d.", r.Level, r.Name, known.Min, known.Max)
		case r.Level < level && !r.AllowDowngrade:
			errs[i] = kerr.With(kerr.InvalidUpdateVersion,
				"Feature %s is at level %d; going down to %d must be allowed explicitly.", r.Name, level, r.Level)
		case r.Level == level:
		case r.Level == 0:
			changes = append(changes, Change{Writes: []Write{{Key: p.keys.Feature(r.Name)}}})
		default:
			changes = append(changes, Change{Writes: []Write{{Key: p.keys.Feature(r.Name), Value: meta.FeatureRecord{Level: r.Level}}}})
		}
		seen[r.Name] = true
	}
	return errs, changes
}
