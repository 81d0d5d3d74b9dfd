package metrics

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// page is what one scrape shows of our metrics, as text. With ten thousand partitions
// that is sixty thousand lines, so they are written as they come: a few buffers of the
// answer's own size are all that a scrape takes.
type page struct {
	r    *Registry
	seed maphash.Seed
	// families are in the order of the table.
	families []family
	errs     []error
}

// family is the lines of one metric, which the format wants side by side.
type family struct {
	buf []byte
	// seen are the hashes of the label values of each line, to find one given twice.
	seen []uint64
}

// collect calls the snapshot functions.
func (r *Registry) collect() *page {
	p := &page{r: r, seed: maphash.MakeSeed(), families: make([]family, len(r.rows))}
	r.mu.Lock()
	snapshots := r.mu.snapshots
	for i, size := range r.mu.sizes {
		p.families[i].buf = make([]byte, 0, size+size/8)
	}
	r.mu.Unlock()
	for _, f := range snapshots {
		f(p.emit)
	}
	sizes := make([]int, len(p.families))
	for i := range p.families {
		p.dropRepeats(i)
		sizes[i] = len(p.families[i].buf)
	}
	r.mu.Lock()
	r.mu.sizes = sizes
	r.mu.Unlock()
	return p
}

// emit is an Emit.
func (p *page) emit(name string, value float64, labels ...string) {
	i, ok := p.r.index[name]
	if !ok || len(labels) != len(p.r.rows[i].labels) {
		p.errs = append(p.errs, fmt.Errorf("snapshot: %s with %d labels is not in the table", name, len(labels)))
		return
	}
	var h maphash.Hash
	h.SetSeed(p.seed)
	for _, v := range labels {
		if !utf8.ValidString(v) {
			p.errs = append(p.errs, fmt.Errorf("snapshot: %s: label value %q is not UTF-8", name, v))
			return
		}
		_, _ = h.WriteString(v)
		_ = h.WriteByte(0xff) // in no UTF-8 text
	}
	f, w := &p.families[i], &p.r.rows[i]
	f.seen = append(f.seen, h.Sum64())
	b := append(f.buf, name...)
	for k, at := range w.order {
		sep := byte(',')
		if k == 0 {
			sep = '{'
		}
		b = append(b, sep)
		b = append(b, w.labels[at]...)
		b = append(b, '=', '"')
		b = appendLabel(b, labels[at])
		b = append(b, '"')
	}
	if len(w.order) > 0 {
		b = append(b, '}')
	}
	b = append(b, ' ')
	b = appendValue(b, value)
	f.buf = append(b, '\n')
}

// appendLabel escapes a label's value.
func appendLabel(b []byte, v string) []byte {
	if !strings.ContainsAny(v, "\\\"\n") {
		return append(b, v...)
	}
	for _, c := range []byte(v) {
		switch c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendValue writes whole numbers without an exponent.
func appendValue(b []byte, v float64) []byte {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.AppendInt(b, int64(v), 10)
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// dropRepeats removes the lines of a family that repeat the labels of an earlier one, which
// a scraper would refuse with everything else.
func (p *page) dropRepeats(i int) {
	f := &p.families[i]
	sorted := slices.Clone(f.seen)
	slices.Sort(sorted)
	if len(slices.Compact(sorted)) == len(f.seen) {
		return
	}
	p.errs = append(p.errs, fmt.Errorf("snapshot: %s is given twice for the same labels", p.r.rows[i].name))
	known := make(map[uint64]bool, len(f.seen))
	var kept []byte
	at := 0
	for line := range bytes.Lines(f.buf) {
		if !known[f.seen[at]] {
			kept = append(kept, line...)
		}
		known[f.seen[at]] = true
		at++
	}
	f.buf = kept
}

// writeTo writes the families that have values.
func (p *page) writeTo(w io.Writer) error {
	for i, f := range p.families {
		if len(f.buf) == 0 {
			continue
		}
		row := &p.r.rows[i]
		kind := "gauge"
		if row.kind == counter {
			kind = "counter"
		}
		if _, err := fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", row.name, row.help, row.name, kind); err != nil {
			return err
		}
		if _, err := w.Write(f.buf); err != nil {
			return err
		}
	}
	return nil
}

// contentType is that of Prometheus' text format.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// ServeHTTP answers a scrape: our metrics, then those of the Go runtime and the process.
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		http.Error(w, fmt.Sprintf("%d scrapes are under way already, try again later", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	p := h.r.collect()
	if len(p.errs) > 0 && h.log != nil {
		more := ""
		if n := len(p.errs); n > 1 {
			more = fmt.Sprintf(" (and %d more)", n-1)
		}
		h.log(p.errs[0].Error() + more)
	}
	w.Header().Set("Content-Type", contentType)
	var out io.Writer = w
	if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is one there is
		defer func() { _ = z.Close() }()               // a scraper that went away is no error of ours
		out = z
	}
	if p.writeTo(out) != nil {
		return
	}
	plain := req.Clone(req.Context())
	plain.Header = http.Header{}
	h.rest.ServeHTTP(&bodyOnly{Writer: out, header: http.Header{}}, plain)
}

// bodyOnly passes on what a handler writes, and none of its headers.
type bodyOnly struct {
	io.Writer
	header http.Header
}

// Header implements http.ResponseWriter.
func (b *bodyOnly) Header() http.Header { return b.header }

// WriteHeader implements http.ResponseWriter.
func (b *bodyOnly) WriteHeader(int) {}
