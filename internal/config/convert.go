package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Check loads a file alone, as a start would, and returns what a start would say.
func Check(file string) ([]Warning, error) {
	_, warnings, err := Load(LoadOptions{File: file})
	return warnings, err
}

// Convert turns a server.properties (data, read from the file of that name) into a
// kalda.yaml that gives the same node. Keys without effect become comments that say what
// does their job; Kafka's controller listeners are left out. A file that would not start a
// node is not converted: the error is that of Load.
func Convert(file string, data []byte) ([]byte, error) {
	c, _, err := Load(LoadOptions{File: file, FileBytes: data})
	if err != nil {
		return nil, err
	}
	settings, _ := readProperties(file, data)
	last := map[string]int{}
	for i, s := range settings {
		last[s.key] = i
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# From %s\n", comment(file))
	for i, s := range settings {
		if last[s.key] != i {
			continue
		}
		k, listener, _ := lookupBroker(s.key)
		if k.Status != Honoured || listener != "" {
			if k.Status == Ignored {
				fmt.Fprintf(&b, "# %s: %s\n", comment(s.key), k.Instead)
			}
			continue
		}
		key, value := s.key, strings.TrimSpace(s.value)
		switch key {
		case "broker.id":
			if strings.HasPrefix(value, "-") {
				continue
			}
			key = "node.id"
		case "log.dir":
			key = "log.dirs"
		case "listeners":
			value = joinListeners(c.listeners)
		case "advertised.listeners":
			value = joinListeners(c.advertised)
		}
		if key != s.key {
			if _, both := last[key]; both {
				continue // the newer name counts
			}
		}
		if value == "" {
			continue
		}
		line, err := yaml.Marshal(map[string]string{key: value})
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
		// A number needs no quotes: every value is read as text and then by its key's type.
		if k, _ := brokerTable.byName[key].Parse(value); k.Text == value && plain(value) {
			line = []byte(key + ": " + value + "\n")
		}
		b.Write(line)
	}
	return b.Bytes(), nil
}

func plain(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == "" || s == "true" || s == "false"
}

// comment keeps a text from the file on one line of a comment.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}

func joinListeners(ls []Listener) string {
	var parts []string
	for _, l := range ls {
		parts = append(parts, l.String())
	}
	return strings.Join(parts, ",")
}
