package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML reads kalda.yaml: a map whose keys may be whole names (log.retention.ms: 7d) or
// nested (log: {retention: {ms: 7d}}), in any mixture. Lists become comma separated values.
// Anchors are refused: a value should stand where it is read, and they can blow up a file.
func readYAML(file string, data []byte) ([]setting, []error) {
	at := func(line, col int) Source {
		return Source{Kind: FromFile, File: file, Line: max(line, 1), Column: max(col, 1)}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, []error{&Error{At: at(yamlErrorLine(err), 1), Text: strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, []error{&Error{At: at(more.Line, more.Column), Text: "the file holds more than one document"}}
	}
	w := yamlWalk{at: at}
	if len(doc.Content) == 1 {
		root := doc.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			return nil, nil
		}
		w.node("", root)
	}
	return w.out, w.errs
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

func yamlErrorLine(err error) int {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 1
}

type yamlWalk struct {
	at   func(line, col int) Source
	out  []setting
	errs []error
}

func (w *yamlWalk) fail(n *yaml.Node, key, format string, args ...any) {
	w.errs = append(w.errs, &Error{Key: key, At: w.at(n.Line, n.Column), Text: fmt.Sprintf(format, args...)})
}

// node reads the value of a key; path is "" for the whole file.
func (w *yamlWalk) node(path string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		w.fail(n, path, "want a map of keys, not %s", kindName(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" || k.Value == "" {
			w.fail(k, path, "a key must be a plain name, not %s", kindName(k))
			continue
		}
		name := k.Value
		if path != "" {
			name = path + "." + name
		}
		at := w.at(k.Line, k.Column)
		switch v.Kind {
		case yaml.MappingNode:
			w.node(name, v)
		case yaml.ScalarNode:
			if v.Tag == "!!null" {
				w.fail(v, name, "%s has no value; leave the key out to use its default", name)
				continue
			}
			w.out = append(w.out, setting{name, v.Value, at})
		case yaml.SequenceNode:
			var parts []string
			for _, e := range v.Content {
				if e.Kind != yaml.ScalarNode || e.Tag == "!!null" {
					w.fail(e, name, "an entry of the list %s is not a plain value", name)
					continue
				}
				parts = append(parts, e.Value)
			}
			w.out = append(w.out, setting{name, strings.Join(parts, ","), at})
		default:
			w.fail(v, name, "%s: %s cannot be used here", name, kindName(v))
		}
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return fmt.Sprintf("%q", n.Value)
}

// looksLikeYAML decides the form of a file by its name, else by its first line with text.
func looksLikeYAML(file string, data []byte) bool {
	switch {
	case strings.HasSuffix(file, ".yaml"), strings.HasSuffix(file, ".yml"):
		return true
	case strings.HasSuffix(file, ".properties"):
		return false
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		eq, colon := strings.IndexByte(line, '='), strings.IndexByte(line, ':')
		return eq < 0 || colon >= 0 && colon < eq
	}
	return true
}
