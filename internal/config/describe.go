package config

import (
	"slices"
	"strings"
)

// WireSource is where a value comes from, with the numbers of DescribeConfigs.
type WireSource int8

// The sources of DescribeConfigs.
const (
	WireTopic         WireSource = 1
	WireBroker        WireSource = 2
	WireBrokerDefault WireSource = 3
	WireStatic        WireSource = 4
	WireDefault       WireSource = 5
	WireGroup         WireSource = 8
)

// Entry is one config of one resource, as DescribeConfigs answers it.
type Entry struct {
	Name string
	// Value is nil for an unset key without default and for a sensitive key.
	Value *string
	Type  Type
	// Source is where Value comes from.
	Source WireSource
	// ReadOnly keys cannot be altered.
	ReadOnly  bool
	Sensitive bool
	// Doc is a sentence for people.
	Doc string
	// Synonyms are all values that the key could have, strongest first; the first is the
	// one that counts.
	Synonyms []SynonymEntry
}

// SynonymEntry is one value that a key could have.
type SynonymEntry struct {
	Name   string
	Value  *string
	Source WireSource
}

// IsDefault says whether nothing set the key (the old answers know no more).
func (e Entry) IsDefault() bool { return e.Source == WireDefault }

// DescribeTopic lists the configs of a topic whose own settings are overrides. names
// restricts the answer to some keys; nil is all. Keys without effect are left out unless
// they are set or asked for by name; unknown names are left out.
func (c *Config) DescribeTopic(overrides map[string]string, d Dynamic, names []string) []Entry {
	layers := append([]layer{{FromResource, overrides}}, d.layers()...)
	return c.describe(topicTable, layers, WireTopic, names)
}

// WithDerived fills in the defaults that are derived from the cluster: entries that are
// unset get the value of their name in derived, as a default. A topic's effective
// min.insync.replicas and kalda.flush.policy stand in its partitions' state.
func WithDerived(entries []Entry, derived map[string]string) []Entry {
	for i := range entries {
		e := &entries[i]
		if v, ok := derived[e.Name]; ok && e.Value == nil && !e.Sensitive {
			e.Value, e.Source = &v, WireDefault
			e.Synonyms = append(e.Synonyms, SynonymEntry{e.Name, &v, WireDefault})
		}
	}
	return entries
}

// DescribeBroker lists the configs of this node's broker; see DescribeTopic.
func (c *Config) DescribeBroker(d Dynamic, names []string) []Entry {
	return c.describe(brokerTable, d.layers(), 0, names)
}

// DescribeBrokerDefault lists the dynamic values that hold for all brokers.
func (c *Config) DescribeBrokerDefault(d Dynamic, names []string) []Entry {
	var out []Entry
	for _, e := range c.describe(brokerTable, []layer{{FromDynamicDefault, d.Default}}, 0, names) {
		if e.Source == WireBrokerDefault {
			e.Synonyms = e.Synonyms[:1]
			out = append(out, e)
		}
	}
	return out
}

// DescribeGroup lists the configs of a group whose own settings are overrides.
func (c *Config) DescribeGroup(overrides map[string]string, d Dynamic, names []string) []Entry {
	layers := append([]layer{{FromResource, overrides}}, d.layers()...)
	return c.describe(groupTable, layers, WireGroup, names)
}

func (c *Config) describe(t *table, layers []layer, own WireSource, names []string) []Entry {
	var out []Entry
	for i := range t.keys {
		k := &t.keys[i]
		if names != nil && !slices.Contains(names, k.Name) {
			continue
		}
		if k.Status == NotBuilt && t == brokerTable {
			continue
		}
		all, err := c.candidates(k, layers)
		if err != nil { // a stored value that this version does not take is not in force
			all, _ = c.candidates(k, nil)
		}
		if k.Status != Honoured && names == nil && all[0].Source.Kind != FromResource && !(t == brokerTable && all[0].Source.Kind != FromDefault) {
			continue
		}
		e := Entry{
			Name: k.Name, Type: k.Type, Sensitive: k.Sensitive(), Doc: k.sentence(),
			ReadOnly: t == brokerTable && (k.Update == ReadOnly || k.Status != Honoured),
		}
		for _, cand := range all {
			s := SynonymEntry{Name: cand.Name, Source: wireSource(cand.Source.Kind, own)}
			// A synonym has its value in its own unit, as it was set.
			if syn := brokerTable.byName[cand.Name]; syn != nil && cand.Name != k.Name {
				cand.Value.Text = c.ownText(syn, cand, layers)
			}
			if !k.Sensitive() && !cand.Value.Null {
				v := cand.Value.Text
				s.Value = &v
			}
			e.Synonyms = append(e.Synonyms, s)
		}
		e.Source = e.Synonyms[0].Source
		if !k.Sensitive() && !all[0].Value.Null {
			v := all[0].Value.Text
			e.Value = &v
		}
		if all[len(all)-1].Value.Null { // unset is not a value to list
			e.Synonyms = e.Synonyms[:len(e.Synonyms)-1]
		}
		out = append(out, e)
	}
	return out
}

// ownText is the value of a synonym as it was set.
func (c *Config) ownText(syn *Key, cand candidate, layers []layer) string {
	switch cand.Source.Kind {
	case FromDefault:
		return syn.Default
	case FromFile, FromEnv, FromSet:
		return c.static[syn.Name].val.Text
	}
	for _, l := range layers {
		if raw, ok := l.values[syn.Name]; ok && l.kind == cand.Source.Kind {
			if v, err := syn.Parse(raw); err == nil {
				return v.Text
			}
		}
	}
	return cand.Value.Text
}

func wireSource(k SourceKind, own WireSource) WireSource {
	switch k {
	case FromResource:
		return own
	case FromDynamicBroker:
		return WireBroker
	case FromDynamicDefault:
		return WireBrokerDefault
	case FromDefault:
		return WireDefault
	}
	return WireStatic
}

// sentence is the documentation of a key as one or two sentences.
func (k *Key) sentence() string {
	s := strings.ToUpper(k.Doc[:1]) + k.Doc[1:] + "."
	if k.Status != Honoured {
		s += " " + strings.ToUpper(k.Status.String()[:1]) + k.Status.String()[1:] + ": " + k.Instead + "."
	}
	return s
}
