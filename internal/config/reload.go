package config

import (
	"maps"
	"slices"
)

// Reload is what a running node makes of its configuration read anew: a Config with next's
// values of all keys that may change while it runs, and c's of the others. restart names
// the keys whose change in next waits for a restart, sorted.
func (c *Config) Reload(next *Config) (merged *Config, restart []string) {
	merged = &Config{static: maps.Clone(c.static), listener: next.listener, listeners: c.listeners, advertised: c.advertised}
	for i := range brokerTable.keys {
		k := &brokerTable.keys[i]
		now, was := c.static[k.Name]
		then, will := next.static[k.Name]
		switch {
		case k.reloadable():
			if will {
				merged.static[k.Name] = then
			} else {
				delete(merged.static, k.Name)
			}
		case k.Status == Honoured && (was != will || now.val.Text != then.val.Text):
			restart = append(restart, k.Name)
		}
	}
	return merged, restart
}

// reloadable says whether a running node follows a change of the key: it is dynamic, or it
// stands in for a dynamic key.
func (k *Key) reloadable() bool {
	if k.Status != Honoured {
		return false
	}
	return k.Update != ReadOnly || slices.ContainsFunc(brokerTable.keys, func(d Key) bool {
		return d.Update != ReadOnly && slices.ContainsFunc(d.Synonyms, func(s Synonym) bool { return s.Name == k.Name })
	})
}
