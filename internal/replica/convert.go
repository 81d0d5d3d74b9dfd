package replica

import (
	"runtime"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// Batches whose form is not the one that their topic stores (message sets of old producers,
// another codec) are converted before they are appended. Conversion is work for a processor,
// so as many run at a time as there are processors, and their memory is bounded by that; the
// connections of further ones wait. A batch in the right form never comes here.

// converters holds the converters that are not in use; nil stands for one not made yet.
type converters chan *record.Converter

func newConverters() converters {
	n := runtime.GOMAXPROCS(0)
	c := make(converters, n) // all of them fit
	for range n {
		c <- nil
	}
	return c
}

func (c converters) take() *record.Converter {
	v := <-c
	if v == nil {
		v = new(record.Converter)
	}
	return v
}

func (c converters) give(v *record.Converter) {
	v.Shrink()
	c <- v
}

const (
	// freeUnpacked is what the batches of one request may unpack to together, whatever they
	// are: as much as one batch may. perByte is what each of their bytes adds to that. Text
	// compresses to a tenth, and data that compress much better come in small requests.
	freeUnpacked = record.MaxDecompressed
	perByte      = 32
)

// Unpacking is the work that the batches of one request make by being unpacked. A request of
// 100 MiB could else hold ten thousand batches of which each unpacks to 64 MiB, minutes of
// a processor. The zero value is of a request that begins.
type Unpacking struct{ over int }

// begin says why nothing more of the request is unpacked.
func (u *Unpacking) begin() error {
	if u != nil && u.over > freeUnpacked {
		return kerr.With(kerr.MessageTooLarge, "the batches of the request decompress to more than %d bytes and %d times their size together", freeUnpacked, perByte)
	}
	return nil
}

// end notes that b was unpacked by c.
func (u *Unpacking) end(b []byte, c *record.Converter) {
	if u != nil {
		u.over = max(u.over+c.Unpacked()-perByte*len(b), 0)
	}
}

// appendConverted is Append of a batch that the topic does not store as it is.
func (p *Partition) appendConverted(b []byte, s *Settings, v record.ValidateOptions, a Ack) (Appended, error) {
	// Nothing is unpacked for a partition that will refuse it.
	if _, err := p.Leader(); err != nil {
		return Appended{}, err
	}
	if err := a.Unpacking.begin(); err != nil {
		return Appended{}, err
	}
	c := p.m.converters.take()
	defer p.m.converters.give(c)
	out, err := c.Convert(b, s.Target, v)
	a.Unpacking.end(b, c)
	if err != nil {
		return Appended{}, err
	}
	return p.stage(out, &v, &a)
}

// checkCompressed looks for records without keys in a compressed batch for a compacted
// topic. (Kafka decompresses every batch; other topics of ours do not need it.)
func (p *Partition) checkCompressed(b []byte, s *Settings, v record.ValidateOptions, u *Unpacking) error {
	if _, err := p.Leader(); err != nil {
		return err
	}
	if err := u.begin(); err != nil {
		return err
	}
	c := p.m.converters.take()
	defer p.m.converters.give(c)
	defer u.end(b, c)
	return c.CheckRecords(b, s.Target, v)
}

// StoresZstd says that the topic's configuration makes every batch zstd, which consumers
// below Fetch version 10 cannot read.
func (p *Partition) StoresZstd() bool {
	t := &p.settings.Load().Target
	return t.Recompress && t.Codec == record.Zstd
}
