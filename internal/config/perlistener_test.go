package config

import (
	"maps"
	"testing"
)

func TestPerIP(t *testing.T) {
	got, err := parsePerIP(" 10.0.0.1:5, [::1]:7,2001:db8::1:9 ,::ffff:10.0.0.2:0,")
	want := map[string]int{"10.0.0.1": 5, "::1": 7, "2001:db8::1": 9, "10.0.0.2": 0}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"x", "host:5", "10.0.0.1", "10.0.0.1:", "10.0.0.1:-1", "10.0.0.1:4294967296", ":5"} {
		if _, err := parsePerIP(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// The limits on connections exist for single listeners, too; other keys of one listener
// stay ignored.
func TestKeysOfOneListener(t *testing.T) {
	load := func(set ...string) (*Config, []Warning) {
		t.Helper()
		c, w, err := Load(LoadOptions{Set: set})
		if err != nil {
			t.Fatal(err)
		}
		return c, w
	}
	c, w := load("listener.name.plaintext.max.connections=5", "listener.name.B.max.connection.creation.rate=6", "listener.name.plaintext.socket.request.max.bytes=7")
	o := c.Broker()
	if !maps.Equal(o.ListenerMaxConnections, map[string]int{"PLAINTEXT": 5}) || !maps.Equal(o.ListenerConnectionRate, map[string]int{"B": 6}) {
		t.Errorf("%v, %v", o.ListenerMaxConnections, o.ListenerConnectionRate)
	}
	if o.MaxConnections != 1<<31-1 || o.SocketRequestMaxBytes != 100<<20 {
		t.Error("a key of one listener counts for all")
	}
	if len(w) != 1 {
		t.Errorf("warnings: %v", w)
	}
	next, _ := load("listener.name.plaintext.max.connections=8")
	merged, restart := c.Reload(next)
	o = merged.Broker()
	if !maps.Equal(o.ListenerMaxConnections, map[string]int{"PLAINTEXT": 8}) || o.ListenerConnectionRate != nil || len(restart) > 0 {
		t.Errorf("reloaded: %v, %v, %v", o.ListenerMaxConnections, o.ListenerConnectionRate, restart)
	}
	if _, _, err := Load(LoadOptions{Set: []string{"listener.name.a.max.connections=-1"}}); err == nil {
		t.Error("-1 is taken")
	}
}
