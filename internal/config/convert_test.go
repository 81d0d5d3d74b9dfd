package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A converted file gives the same node as the original.
func TestConvert(t *testing.T) {
	files, _ := filepath.Glob("testdata/server-*.properties")
	for _, f := range append(files, "odd") {
		data, err := os.ReadFile(f)
		if f == "odd" {
			data, err = []byte("broker.id=3\nlog.dir=/x y/#z\nlog.retention.ms=7d\nlog.roll.hours=\\u0031\n"+
				"num.partitions=2\nnum.partitions=4\nbroker.rack=true\nkalda.cluster=0123\nauto.create.topics.enable=false\nnum.io.threads=8\n"), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := Convert(filepath.Base(f)+".properties", data)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := load(t, LoadOptions{File: "f.properties", FileBytes: data})
		after, warnings := load(t, LoadOptions{File: "k.yaml", FileBytes: out})
		if len(warnings) > 0 {
			t.Errorf("%s: the converted file warns: %v", f, warnings)
		}
		b, a := before.Broker(), after.Broker()
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s:\n%s\nbefore %+v\nafter  %+v", f, out, b, a)
		}
		bt, _ := before.Topic(nil, nil)
		at, _ := after.Topic(nil, nil)
		if at != bt {
			t.Errorf("%s: before %+v\nafter %+v", f, bt, at)
		}
	}
	out, _ := Convert("f.properties", []byte("num.io.threads=8\nlog.dirs=/d\n"))
	if want := "# From f.properties\n# num.io.threads: " + insteadThreads + "\nlog.dirs: /d\n"; string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
	if _, err := Convert("f.properties", []byte("sasl.enabled.mechanisms=PLAIN\n")); err == nil {
		t.Error("a refused file was converted")
	}
}

func TestCheck(t *testing.T) {
	w, err := Check("testdata/server-4.x.properties")
	if err != nil || len(w) == 0 {
		t.Errorf("%v %v", w, err)
	}
	if _, err := Check("testdata/none.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/server-*.properties")
	for _, file := range files {
		data, _ := os.ReadFile(file)
		f.Add("f.properties", string(data))
	}
	f.Add("f.yaml", "log: {retention: {ms: 7d}}\nlisteners: [PLAINTEXT://[::1]:9092]\n")
	f.Add("f.yaml", "a: &a [*a]\n<<: {}\n? [x]\n: y\n")
	f.Add("f", "x\\u12\n = \n\\")
	f.Fuzz(func(t *testing.T, name, text string) {
		c, _, err := Load(LoadOptions{File: name, FileBytes: []byte(text)})
		if err != nil {
			return
		}
		o := c.Broker()
		if len(o.Listeners) == 0 || len(o.LogDirs) == 0 || o.NodeID < 0 || o.NumPartitions < 1 {
			t.Errorf("accepted: %+v", o)
		}
		if _, err := c.Topic(nil, nil); err != nil {
			t.Error(err)
		}
		if looksLikeYAML(name, []byte(text)) || strings.ContainsRune(text, '\ufffd') {
			return
		}
		out, err := Convert(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := Load(LoadOptions{File: "k.yaml", FileBytes: out})
		if err != nil {
			t.Fatalf("%s\n%v", out, err)
		}
		if a := again.Broker(); !reflect.DeepEqual(a, o) {
			t.Errorf("%s\nbefore %+v\nafter  %+v", out, o, a)
		}
	})
}

// A canonical value is canonical: reading it again gives the same.
func FuzzParseValue(f *testing.F) {
	for _, s := range []string{"7d", "512MiB", "-1", "a,b", "true", "1e300", "0x10", "99999999999999999999"} {
		for _, k := range []string{"log.retention.ms", "log.retention.hours", "log.segment.bytes", "listeners", "log.cleaner.min.cleanable.ratio", "kalda.metadata"} {
			f.Add(k, s)
		}
	}
	f.Fuzz(func(t *testing.T, key, raw string) {
		k := brokerTable.byName[key]
		if k == nil {
			return
		}
		v, err := k.Parse(raw)
		if err != nil {
			return
		}
		again, err := k.Parse(v.Text)
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%s=%q: %+v, again %+v, %v", key, raw, v, again, err)
		}
	})
}
