// Package matrix keeps the results of clients x scenarios and prints them.
//
// A cell says one of: pass; fail, with the error; skip, because a program is not installed here;
// n/a, because the client cannot do it, with the reason. Nothing is ever left out of the table: an
// empty cell means that the run ended before it got there.
package matrix

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Outcome is what became of one scenario with one client.
type Outcome string

// The outcomes of a cell.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
	NA   Outcome = "n/a"
)

// Cell is one result. Reason is empty exactly for Pass.
type Cell struct {
	Scenario string  `json:"scenario"`
	Client   string  `json:"client"`
	Outcome  Outcome `json:"outcome"`
	Reason   string  `json:"reason,omitempty"`
	Millis   int64   `json:"ms"`
}

// Column is one client with the version that was tested.
type Column struct {
	Client  string `json:"client"`
	Version string `json:"version"`
}

// Matrix collects cells. It is safe for concurrent use.
type Matrix struct {
	mu        sync.Mutex
	target    string
	columns   []Column
	scenarios []string // in the order of the table
	cells     map[[2]string]Cell
}

// New returns an empty matrix for a target with its rows and columns in order.
func New(target string, scenarios []string, columns []Column) *Matrix {
	return &Matrix{target: target, columns: columns, scenarios: scenarios, cells: make(map[[2]string]Cell)}
}

// Put records a result. Putting the same cell twice is a mistake of the runner and panics.
func (m *Matrix) Put(c Cell) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{c.Scenario, c.Client}
	if _, dup := m.cells[key]; dup {
		panic(fmt.Sprintf("matrix: %s with %s was put twice", c.Scenario, c.Client))
	}
	m.cells[key] = c
}

// Counts returns how many cells have each outcome.
func (m *Matrix) Counts() map[Outcome]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := make(map[Outcome]int)
	for _, c := range m.cells {
		counts[c.Outcome]++
	}
	return counts
}

// Markdown returns the table and, below it, the reason of every cell that is not a pass.
func (m *Matrix) Markdown() string {
	counts := m.Counts()
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "# Clients against %s\n\n", m.target)
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped, %d not applicable\n\n| scenario |", counts[Pass], counts[Fail], counts[Skip], counts[NA])
	for _, c := range m.columns {
		fmt.Fprintf(&b, " %s %s |", c.Client, c.Version)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(m.columns)) + "\n")
	var notes []string
	for _, s := range m.scenarios {
		fmt.Fprintf(&b, "| %s |", s)
		for _, col := range m.columns {
			c := m.cells[[2]string{s, col.Client}]
			fmt.Fprintf(&b, " %s |", c.Outcome)
			if c.Reason != "" {
				reason, _, _ := strings.Cut(c.Reason, "\n")
				notes = append(notes, fmt.Sprintf("- %s, %s: %s: %s", s, c.Client, c.Outcome, reason))
			}
		}
		b.WriteString("\n")
	}
	if len(notes) > 0 {
		b.WriteString("\n" + strings.Join(notes, "\n") + "\n")
	}
	return b.String()
}

// JSON returns {"target", "clients", "results"}, the results in the table's order.
func (m *Matrix) JSON() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	results := []Cell{}
	for _, s := range m.scenarios {
		for _, col := range m.columns {
			if c, ok := m.cells[[2]string{s, col.Client}]; ok {
				results = append(results, c)
			}
		}
	}
	return json.MarshalIndent(map[string]any{"target": m.target, "clients": m.columns, "results": results}, "", "  ")
}

// Write writes the matrix to path, as JSON if it ends in .json and as Markdown otherwise.
func (m *Matrix) Write(path string) error {
	text := []byte(m.Markdown())
	if strings.HasSuffix(path, ".json") {
		var err error
		if text, err = m.JSON(); err != nil {
			return err
		}
		text = append(text, '\n')
	}
	return os.WriteFile(path, text, 0o644)
}
