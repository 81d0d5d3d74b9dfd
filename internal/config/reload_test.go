package config

import (
	"slices"
	"testing"
	"time"
)

func TestReload(t *testing.T) {
	old, _ := load(t, LoadOptions{File: "f.properties", FileBytes: []byte("log.retention.hours=1\nnum.partitions=3\nmessage.max.bytes=5000\nlog.dirs=/a\n")})
	next, _ := load(t, LoadOptions{File: "f.properties", FileBytes: []byte("log.retention.hours=2\nnum.partitions=4\nlog.dirs=/a\nbroker.rack=r\nnum.io.threads=9\n")})
	got, restart := old.Reload(next)
	if want := []string{"broker.rack", "num.partitions"}; !slices.Equal(restart, want) {
		t.Errorf("restart for %v, want %v", restart, want)
	}
	o := got.Broker()
	top, err := got.Topic(nil, nil)
	if err != nil || top.Retention != 2*time.Hour || top.MaxMessageBytes != 1048588 {
		t.Errorf("%+v %v", top, err)
	}
	if o.NumPartitions != 3 || o.Rack != "" || o.LogDirs[0] != "/a" || len(o.Listeners) != 1 {
		t.Errorf("%+v", o)
	}
	// The old one is as it was.
	if top, _ := old.Topic(nil, nil); top.Retention != time.Hour || top.MaxMessageBytes != 5000 {
		t.Errorf("the old configuration changed: %+v", top)
	}
	if _, restart := old.Reload(old); restart != nil {
		t.Errorf("nothing changed, restart for %v", restart)
	}
}
