package node

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/config"
)

// open dials and says whether the broker serves the connection within a millisecond.
func (d *dyn) open() (c *wireConn, served bool) {
	d.Helper()
	c = d.w.dial()
	_, err := c.trySend(kmsg.NewPtrApiVersionsRequest()) // one that is refused may be closed already
	return c, err == nil && c.answered()
}

// answered says whether an answer comes within a millisecond.
func (c *wireConn) answered() bool {
	_ = c.c.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, _ := c.c.Read(make([]byte, 4096))
	_ = c.c.SetReadDeadline(time.Time{})
	return n > 0
}

// limitScripts observe the dynamic keys that limit connections. The connection on which
// the keys are changed is the first of the address.
func limitScripts() map[string]dynScript {
	second := func(lower, higher string, waits bool) dynScript {
		return dynScript{run: func(d *dyn) {
			_, served := d.open()
			d.want("a second connection before", served, true)
			d.alter(lower)
			c, served := d.open()
			d.want("a third one at the limit", served, false)
			d.alter(higher)
			if waits {
				synctest.Wait()
				d.want("the third one below the limit", c.answered(), true)
			}
			_, served = d.open()
			d.want("a new one below the limit", served, true)
			d.unset()
			_, served = d.open()
			d.want("a new one without a limit", served, true)
		}}
	}
	return map[string]dynScript{
		"max.connections":                  second("2", "4", true),
		"max.connections.per.ip":           second("2", "4", false),
		"max.connections.per.ip.overrides": second("10.0.0.1:9,127.0.0.1:2", "127.0.0.1:4", false),
		"max.connection.creation.rate": {run: func(d *dyn) {
			_, served := d.open()
			d.want("a second connection before", served, true)
			d.alter("0")
			c, served := d.open()
			d.want("one at a rate of 0", served, false)
			d.alter("1")
			synctest.Wait()
			d.want("it at a rate of 1", c.answered(), true)
			c, served = d.open()
			d.want("the next within the second", served, false)
			<-time.After(time.Second)
			d.want("the next after a second", c.answered(), true)
			d.unset()
			for i := range 10 {
				_, served = d.open()
				d.want(fmt.Sprintf("number %d without a limit", i), served, true)
			}
		}},
	}
}

func TestConnOptions(t *testing.T) {
	load := func(set ...string) *config.BrokerOptions {
		c, _, err := config.Load(config.LoadOptions{Set: set})
		if err != nil {
			t.Fatal(err)
		}
		o := c.Broker()
		return &o
	}
	c := connOptions(load(), 20000)
	if c.Max != 15000 || c.MaxKey == "" {
		t.Errorf("%d connections for 20000 files (%q)", c.Max, c.MaxKey)
	}
	c = connOptions(load("max.connections=100", "max.connections.per.ip.overrides=10.0.0.1:3", "listener.name.plaintext.max.connections=7",
		"listener.name.plaintext.max.connection.creation.rate=8"), 20000)
	if c.Max != 100 || c.MaxKey != "" || !maps.Equal(c.Overrides, map[string]int{"10.0.0.1": 3}) ||
		!maps.Equal(c.MaxListener, map[string]int{"PLAINTEXT": 7}) || !maps.Equal(c.RateListener, map[string]int{"PLAINTEXT": 8}) {
		t.Errorf("%+v", c)
	}
}

func TestMemoryLimit(t *testing.T) {
	if n := memoryLimit(); n < 16<<20 {
		t.Errorf("%d bytes", n)
	}
	if n := memTotal([]byte("MemFree: 1 kB\nMemTotal:       2048 kB\n")); n != 2<<20 {
		t.Errorf("%d", n)
	}
	for _, bad := range []string{"", "MemTotal: x kB\n", "MemTotal:\n", "MemTotal: 9223372036854775807 kB\n"} {
		if n := memTotal([]byte(bad)); n != 0 {
			t.Errorf("%q: %d", bad, n)
		}
	}
}
