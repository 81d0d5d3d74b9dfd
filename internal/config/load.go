package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// LoadOptions says where to read from. The zero value gives the defaults alone.
type LoadOptions struct {
	// File is the path of kalda.yaml or of a server.properties; "" for none.
	File string
	// FileBytes, if not nil, is the content of File, which is then only a name.
	FileBytes []byte
	// Env is the environment as NAME=value, usually os.Environ().
	Env []string
	// Set are key=value arguments of the command line; a later one beats an earlier one.
	Set []string
}

// Config is every value that was set for one node, checked. It is immutable.
type Config struct {
	static map[string]entry // by broker key; the strongest value of each
	// listener holds the keys of single listeners, by listener.name.NAME.KEY with NAME in
	// upper case.
	listener map[string]entry
	// listeners and advertised are the client listeners, without Kafka's controller ones.
	listeners, advertised []Listener
}

type entry struct {
	val Value
	src Source
}

// Load reads, checks and combines all static sources. The error joins one *Error per
// mistake (errors.As finds the first), so that an operator sees all at once; an unreadable
// file is reported alone. Warnings come in the order of the sources.
func Load(o LoadOptions) (*Config, []Warning, error) {
	l := loader{cfg: &Config{static: map[string]entry{}, listener: map[string]entry{}}, warned: map[string]bool{}}
	if o.File != "" || o.FileBytes != nil {
		data := o.FileBytes
		if data == nil {
			var err error
			if data, err = os.ReadFile(o.File); err != nil {
				return nil, nil, fmt.Errorf("read the configuration: %w", err)
			}
		}
		if bytes.IndexByte(data, 0) >= 0 {
			return nil, nil, &Error{At: Source{Kind: FromFile, File: o.File, Line: 1, Column: 1}, Text: "the file is not text"}
		}
		if looksLikeYAML(o.File, data) {
			l.add(readYAML(o.File, data))
			l.refuseDoubles()
		} else {
			l.add(readProperties(o.File, data))
		}
	}
	l.add(readEnv(o.Env))
	l.add(readSet(o.Set))
	for _, s := range l.all {
		l.put(s)
	}
	if len(l.errs) == 0 {
		l.finish()
	}
	if len(l.errs) > 0 {
		return nil, l.warnings, errors.Join(l.errs...)
	}
	return l.cfg, l.warnings, nil
}

func readSet(set []string) ([]setting, []error) {
	var out []setting
	var errs []error
	for _, s := range set {
		k, v, ok := strings.Cut(s, "=")
		k = strings.TrimSpace(k)
		at := Source{Kind: FromSet, Name: k}
		if !ok || k == "" {
			errs = append(errs, &Error{At: Source{Kind: FromSet, Name: s}, Text: "want key=value"})
			continue
		}
		out = append(out, setting{k, v, at})
	}
	return out, errs
}

type loader struct {
	cfg      *Config
	all      []setting
	errs     []error
	warnings []Warning
	warned   map[string]bool
}

func (l *loader) add(s []setting, errs []error) {
	l.all = append(l.all, s...)
	l.errs = append(l.errs, errs...)
}

func (l *loader) fail(s setting, format string, args ...any) {
	l.errs = append(l.errs, &Error{Key: s.key, At: s.at, Text: fmt.Sprintf(format, args...)})
}

func (l *loader) warn(s setting, format string, args ...any) {
	l.warnings = append(l.warnings, Warning{Keys: []string{s.key}, At: s.at, Text: fmt.Sprintf(format, args...)})
}

// refuseDoubles reports keys that occur twice in a YAML file, nested or not; in a
// properties file the last one counts, as in Kafka, with a warning.
func (l *loader) refuseDoubles() {
	first := map[string]Source{}
	for _, s := range l.all {
		if at, ok := first[s.key]; ok {
			l.fail(s, "%s occurs twice; the first is at %s", s.key, at)
		} else {
			first[s.key] = s.at
		}
	}
}

// put checks one setting and keeps it unless a stronger source has set the key.
func (l *loader) put(s setting) {
	k, listener, ok := lookupBroker(s.key)
	if !ok {
		text := "unknown key " + s.key
		e := &Error{Key: s.key, At: s.at, Text: text, Nearest: brokerTable.nearest(s.key)}
		if _, topic := topicTable.byName[s.key]; topic {
			e.Text += ": it is a key of topics, and a broker key stands for it in files"
			if syn := topicTable.byName[s.key].Synonyms; len(syn) > 0 {
				e.Nearest = syn[0].Name
			}
		}
		l.errs = append(l.errs, e)
		return
	}
	if k.Status == NotBuilt {
		l.fail(s, "%s is not available in this version: %s", s.key, k.Instead)
		return
	}
	v, err := k.Parse(s.value)
	if err != nil {
		l.fail(s, "%s: %s", s.key, err)
		return
	}
	if err := k.checkLater(v); err != nil {
		l.fail(s, "%s", err)
		return
	}
	switch k.Status {
	case Refused:
		if !k.harmless(v) {
			l.fail(s, "%s is refused: %s", s.key, k.Instead)
		}
		return
	case Ignored:
		if !l.warned[s.key] {
			l.warned[s.key] = true
			l.warn(s, "%s is ignored: %s", s.key, k.Instead)
		}
	}
	if listener != "" { // a key of one listener is never read as a key of the broker
		name := listenerKey(listener, k.Name)
		if old, set := l.cfg.listener[name]; k.Status == Honoured && (!set || old.src.Kind <= s.at.Kind) {
			l.cfg.listener[name] = entry{v, s.at}
		}
		return
	}
	if k.Name == "broker.id" && v.Int64() < 0 {
		return // Kafka's "choose one"
	}
	old, set := l.cfg.static[k.Name]
	if set && old.src.Kind == s.at.Kind && s.at.Kind == FromFile {
		l.warn(s, "%s occurs twice; this one counts, not the one at %s", s.key, old.src)
	}
	if !set || old.src.Kind <= s.at.Kind {
		l.cfg.static[k.Name] = entry{v, s.at}
	}
}

// harmless says that a refused key is set to what leaves the feature off.
func (k *Key) harmless(v Value) bool { return v.Text == "" || !k.Null && v.Text == k.Default }

// lookupBroker finds a broker key. Keys under listener.name.NAME. are those of one
// listener, whose name is returned too; the prefixes of plugins' own settings are known
// and ignored.
func lookupBroker(name string) (k *Key, listener string, ok bool) {
	if k := brokerTable.byName[name]; k != nil {
		return k, "", true
	}
	if rest, ok := strings.CutPrefix(name, "listener.name."); ok {
		l, rest, ok := strings.Cut(rest, ".")
		for ok && l != "" { // listener, then perhaps a login mechanism
			if k := brokerTable.byName[rest]; k != nil {
				c := *k
				if c.Status == Honoured && !ofListeners(c.Name) {
					c.Status, c.Instead = Ignored, "the setting of the broker counts for every listener"
				}
				return &c, l, true
			}
			_, rest, ok = strings.Cut(rest, ".")
		}
	}
	for _, p := range []string{"rsm.config.", "rlmm.config."} {
		if strings.HasPrefix(name, p) && name != p {
			return &Key{Name: name, Type: String, Status: Ignored, Instead: insteadTier}, "", true
		}
	}
	return nil, "", false
}

// finish checks what holds between keys and computes what is not one key's value.
func (l *loader) finish() {
	c := l.cfg
	at := func(key string) setting { return setting{key: key, at: c.static[key].src} }
	n, nset := c.static["node.id"]
	b, bset := c.static["broker.id"]
	if nset && bset && n.val.Int64() != b.val.Int64() {
		l.fail(at("broker.id"), "broker.id=%s and node.id=%s differ (%s)", b.val.Text, n.val.Text, n.src)
	}
	if e, ok := c.static["process.roles"]; ok && !slices.Contains(e.val.list, "broker") {
		l.fail(at("process.roles"), "process.roles=%s: a node that is not a broker is not available in this version", e.val.Text)
	}
	l.listeners(at)
	o := c.Broker()
	if o.Group.MinSessionTimeout > o.Group.MaxSessionTimeout {
		l.fail(at("group.min.session.timeout.ms"), "group.min.session.timeout.ms is above group.max.session.timeout.ms")
	}
	if len(o.LogDirs) == 0 {
		l.fail(at("log.dirs"), "log.dirs names no directory")
	}
}

func (l *loader) listeners(at func(string) setting) {
	c := l.cfg
	// The texts were checked when they were parsed.
	listeners, _ := ParseListeners(c.get("listeners").Text)
	advertised, _ := ParseListeners(c.get("advertised.listeners").Text)
	protocols, _ := parseMap(c.get("listener.security.protocol.map").Text)
	isController := func(x Listener) bool {
		return slices.ContainsFunc(c.get("controller.listener.names").list, func(n string) bool { return strings.EqualFold(n, x.Name) })
	}
	listeners = slices.DeleteFunc(listeners, isController)
	advertised = slices.DeleteFunc(advertised, isController)
	if len(listeners) == 0 {
		l.fail(at("listeners"), "listeners has no address for clients")
	}
	for _, x := range listeners {
		switch p, ok := protocols[x.Name]; {
		case !ok:
			l.fail(at("listeners"), "listener %s has no protocol in listener.security.protocol.map", x.Name)
		case p != "PLAINTEXT":
			l.fail(at("listeners"), "listener %s has protocol %s, which is refused: %s", x.Name, p, insteadSec)
		}
	}
	for _, x := range advertised {
		switch {
		case !slices.ContainsFunc(listeners, func(y Listener) bool { return y.Name == x.Name }):
			l.fail(at("advertised.listeners"), "advertised listener %s is not among listeners", x.Name)
		case x.Host == "0.0.0.0" || x.Host == "::":
			l.fail(at("advertised.listeners"), "%s: clients cannot connect to %s; advertise a name or address of this host", x, x.Host)
		}
	}
	c.listeners, c.advertised = listeners, advertised
}

// get resolves a broker key from the static sources.
func (c *Config) get(name string) Value {
	all, _ := c.candidates(brokerTable.byName[name], nil)
	return all[0].Value
}

// Source returns where a broker key's value comes from; FromDefault if nothing set it.
func (c *Config) Source(key string) Source {
	k := brokerTable.byName[key]
	if k == nil {
		return Source{}
	}
	all, _ := c.candidates(k, nil)
	return all[0].Source
}

// layer is one set of dynamic values.
type layer struct {
	kind   SourceKind
	values map[string]string
}

// candidate is one value that a key could have; the strongest is the one it has.
type candidate struct {
	Name   string // the key under which it was set
	Value  Value
	Source Source
}

// candidates lists the values for k, strongest first and the default last; never empty.
// The strongest source wins, whichever synonym it set; within one source the more exact
// synonym wins. layers are strongest first.
func (c *Config) candidates(k *Key, layers []layer) ([]candidate, error) {
	names := k.Synonyms
	own := brokerTable.byName[k.Name] == k
	if own {
		names = append([]Synonym{{k.Name, 1}}, names...)
	}
	var out []candidate
	add := func(name string, factor int64, v Value, src Source) {
		out = append(out, candidate{name, v.scaled(k, factor), src})
	}
	for _, l := range layers {
		if l.kind == FromResource {
			if raw, ok := l.values[k.Name]; ok {
				v, err := k.Parse(raw)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", k.Name, err)
				}
				add(k.Name, 1, v, Source{Kind: l.kind})
			}
			continue
		}
		for _, s := range names {
			if raw, ok := l.values[s.Name]; ok {
				v, err := brokerTable.byName[s.Name].Parse(raw)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s.Name, err)
				}
				add(s.Name, s.Factor, v, Source{Kind: l.kind})
			}
		}
	}
	static := len(out)
	for _, s := range names {
		if e, ok := c.static[s.Name]; ok {
			add(s.Name, s.Factor, e.val, e.src)
		}
	}
	slices.SortStableFunc(out[static:], func(a, b candidate) int { return cmp.Compare(b.Source.Kind, a.Source.Kind) })
	for _, s := range names {
		if b := brokerTable.byName[s.Name]; !b.Null {
			v, _ := b.Parse(b.Default)
			add(s.Name, s.Factor, v, Source{})
			return out, nil
		}
	}
	if k.Null {
		return append(out, candidate{k.Name, Value{Null: true, unit: k.Unit}, Source{}}), nil
	}
	v, _ := k.Parse(k.Default)
	add(k.Name, 1, v, Source{})
	return out, nil
}
