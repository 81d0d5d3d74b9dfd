package node

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// scrubScripts observe the keys of scrubbing. A round takes place soon after the start.
func scrubScripts() map[string]dynScript {
	read := func(d *dyn) int64 { return d.replicas.Dirs()[0].Scrub.ReadBytes }
	return map[string]dynScript{
		"kalda.scrub.bytes.per.second": {fixed: map[string]string{"segment.bytes": "1024"}, run: func(d *dyn) {
			d.alter("0")
			d.puts("a", "b", "c")
			<-time.After(time.Hour)
			d.want("bytes read while it is off", read(d), int64(0))
			d.alter("1000000")
			<-time.After(20 * time.Second)
			if n := read(d); n < 1200 {
				d.Errorf("%d bytes read", n)
			}
		}},
		"kalda.scrub.interval.ms": {fixed: map[string]string{"segment.bytes": "1024"}, run: func(d *dyn) {
			d.puts("a", "b", "c")
			<-time.After(time.Minute)
			once := read(d)
			<-time.After(time.Hour)
			d.want("bytes read within the interval", read(d), once)
			d.alter("60000")
			<-time.After(5*time.Minute + 20*time.Second)
			if n := read(d); n < 5*once || n > 7*once {
				d.Errorf("%d bytes read in five intervals, %d at a time", n, once)
			}
		}},
	}
}

// spoil turns a bit of a record in the first segment of partition 0 of t.
func (d *dyn) spoil() {
	d.Helper()
	p, err := d.replicas.Lookup([]byte("t"), 0)
	if err != nil {
		d.Fatal(err)
	}
	f, err := d.w.disk.OpenReadWrite(path.Join(p.Path(), "00000000000000000000.log"))
	if err != nil {
		d.Fatal(err)
	}
	defer f.Close()
	b := []byte{0}
	if _, err = f.ReadAt(b, 200); err == nil {
		b[0] ^= 4
		_, err = f.WriteAt(b, 200)
	}
	if err != nil {
		d.Fatal(err)
	}
}

// Damage is found while nobody reads, is told by the metrics, by readiness and to our own
// tools, and a consumer gets CORRUPT_MESSAGE for it, and what lies behind.
func TestScrubbedDamageIsTold(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("kalda.scrub.interval.ms=60000")
		defer b.stop()
		d := &dyn{T: t, running: b}
		d.create("t", 1, map[string]string{"segment.bytes": "1024"})
		d.create("whole", 1, nil)
		d.c = w.dial()
		d.puts("a", "b", "c", "d")
		<-time.After(time.Minute)
		metric := func(name string) string {
			rec := httptest.NewRecorder()
			b.metricsHandler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
			for _, l := range strings.Split(rec.Body.String(), "\n") {
				if strings.HasPrefix(l, name) {
					return l[strings.LastIndexByte(l, ' ')+1:]
				}
			}
			return "none"
		}
		d.want("damaged segments before", metric("kalda_log_dir_damaged_segments{"), "0")
		if s := metric("kalda_log_dir_scrubbed_timestamp_seconds{"); s == "0" || s == "none" {
			t.Errorf("completed: %s", s)
		}
		d.want("ready", b.readyText(), "ready\n")
		d.spoil()
		<-time.After(2 * time.Minute)
		d.want("damaged segments", metric("kalda_log_dir_damaged_segments{"), "1")
		d.want("of the partition", metric(`kalda_partition_damaged_segments{partition="0",topic="t"}`), "1")
		d.want("of another", metric(`kalda_partition_damaged_segments{partition="0",topic="whole"}`), "none")
		d.want("running", metric("kalda_log_dir_scrubbing{"), "0")
		if !strings.Contains(b.readyText(), "has damaged segments: 1") {
			t.Errorf("%q", b.readyText())
		}
		cl := w.client(kgo.SoftwareNameAndVersion("kalda", "1"))
		defer cl.Close()
		resp, err := kmsg.NewPtrDescribeLogDirsRequest().RequestWith(context.Background(), cl)
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, topic := range resp.Dirs[0].Topics {
			topic.Partitions[0].UnknownTags.Each(func(tag uint32, v []byte) {
				if tag != wire.TagPartitionDamage {
					return
				}
				told++
				var got wire.PartitionDamage
				want := wire.PartitionDamage{Segments: 1, NextOffset: 1}
				if topic.Topic != "t" || json.Unmarshal(v, &got) != nil || got != want {
					t.Errorf("%s: %s", topic.Topic, v)
				}
			})
		}
		d.want("told of", told, 1)
		for from, want := range map[int64]int16{0: kerr.CorruptMessage.Code, 1: 0, 3: 0} {
			r := ask[*kmsg.FetchResponse](d.c, fetchRequest(12, "t", model.TopicID{}, from)).Topics[0].Partitions[0]
			d.want("fetch", r.ErrorCode, want)
			d.want("fetch has records", len(r.RecordBatches) > 0, want == 0)
		}
	})
}
