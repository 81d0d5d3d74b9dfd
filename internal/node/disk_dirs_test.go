package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/vfs"
)

// refused starts a broker that must refuse, and returns why.
func (w *world) refused(set ...string) string {
	w.t.Helper()
	cfg, _, err := config.Load(config.LoadOptions{Set: append(testConfig(), set...)})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	m, err := OpenMeta(ctx, MetaOptions{Store: w.store, Cluster: "test", Logger: log})
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close()
	b, err := Start(ctx, Options{Config: cfg, Meta: m, FS: w.fs(), Listen: w.net.Listen, Clock: w.clock, Logger: log})
	if err == nil {
		_ = b.Close(ctx)
		w.t.Fatal("the broker started")
	}
	return err.Error()
}

// copyTree copies a directory of one memory disk to a name on another.
func copyTree(t *testing.T, from *vfs.Mem, src string, to *vfs.Mem, dst string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	names, err := from.List(src)
	must(err)
	must(to.MkdirAll(dst))
	for _, name := range names {
		a, b := src+"/"+name, dst+"/"+name
		if in, err := from.Stat(a); err == nil && in.IsDir {
			copyTree(t, from, a, to, b)
			continue
		}
		data, err := vfs.ReadFile(from, a, 1<<30)
		must(err)
		must(vfs.WriteFile(to, b, data, true))
	}
}

// tailOf is what the latest registration told of the directory at that path.
func (r *running) tailOf(path string) meta.TailClass {
	r.w.t.Helper()
	for _, d := range r.dirs {
		if d.Path() == path {
			return r.registered().Tails[d.ID()]
		}
	}
	r.w.t.Fatalf("no directory %s", path)
	return ""
}

func (r *running) registered() meta.Registration {
	r.w.t.Helper()
	kv, _, err := r.w.store.Get(context.Background(), r.o.Meta.Keys.Registration(r.id))
	if err != nil {
		r.w.t.Fatal(err)
	}
	var reg meta.Registration
	if _, err := meta.DecodeValue(kv.Value, &reg); err != nil {
		r.w.t.Fatal(err)
	}
	return reg
}

const twoDirs = "log.dirs=/data,/data2"

// Directories that were emptied, taken out of the configuration, put back from a backup or
// given to another node beside a living ensemble are refused with their names, nothing is
// changed by that, and the right ones still start. What the operator accepts by id starts,
// and is not trusted (faults.md F27).
func TestOtherDirectories(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start(twoDirs)
		b.create("t", 4, nil)
		c := w.dial()
		c.mustPut("t", "one")
		c.mustPut("t", "two")
		b.stop()
		disk := w.disk
		lostID := b.dirs[1].ID()

		says := func(what string, got string, want ...string) {
			t.Helper()
			for _, s := range want {
				if !strings.Contains(got, s) {
					t.Errorf("%s: %q does not say %q", what, got, s)
				}
			}
		}
		accept := "kalda.lost.dirs.accept=" + lostID

		w.disk = disk.Clone() // emptied
		if err := w.disk.RemoveAll("/data2"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time the directory has an id again
			says("emptied", w.refused(twoDirs), "/data2", "emptied or replaced", accept)
		}
		says("taken out", w.refused(), "/data2", "not among log.dirs", accept)

		// The volume is mounted again.
		w.disk = disk.Clone()
		b = w.start(twoDirs)
		if got := w.values("t"); len(got) != 2 {
			t.Fatalf("%v", got)
		}
		b.stop()

		if err := w.disk.RemoveAll("/data2"); err != nil {
			t.Fatal(err)
		}
		b = w.start(twoDirs, accept)
		if got := b.tailOf("/data2"); got != meta.TailSuspect {
			t.Fatalf("a directory in place of a lost one is registered as %s", got)
		}
		b.stop()
		b = w.start(twoDirs)
		if got := b.tailOf("/data2"); got != meta.TailClean {
			t.Fatalf("after the loss was accepted it is registered as %s", got)
		}
		b.stop()
	})
	bubble(t, func(t *testing.T, w *world) { // a backup of one directory, put back
		b := w.start(twoDirs)
		b.create("t", 4, nil)
		w.dial().mustPut("t", "one")
		b.stop()
		backup := w.disk.Clone()
		b = w.start(twoDirs)
		w.dial().mustPut("t", "two")
		b.stop()
		for i, dir := range []string{"/data", "/data2"} {
			w.disk = w.disk.Clone()
			keep := w.disk.Clone()
			if err := w.disk.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			copyTree(t, backup, dir, w.disk, dir)
			got := w.refused(twoDirs)
			if accept := "kalda.lost.dirs.accept=" + b.dirs[i].ID(); !strings.Contains(got, dir+" is in an older state") || !strings.Contains(got, accept) {
				t.Fatalf("%s from a backup: %s", dir, got)
			}
			if i == 1 {
				b = w.start(twoDirs, "kalda.lost.dirs.accept="+b.dirs[i].ID())
				if got := b.tailOf(dir); got != meta.TailSuspect {
					t.Fatalf("a directory from a backup is registered as %s", got)
				}
				b.stop()
			}
			w.disk = keep
		}
	})
	bubble(t, func(t *testing.T, w *world) { // two nodes' directories, swapped
		b := w.start()
		b.stop()
		got := w.refused("node.id=2")
		if !strings.Contains(got, "/data belongs to node.id 1, this is node 2") {
			t.Fatal(got)
		}
		// Two of the same node may change places: what they are is in them.
		b = w.start(twoDirs)
		b.create("t", 4, nil)
		w.dial().mustPut("t", "one")
		b.stop()
		b = w.start("log.dirs=/data2,/data")
		if got := w.values("t"); got[0] != "one" {
			t.Fatalf("%v", got)
		}
		// A second process on the same directory.
		if got := w.refused("listeners=PLAINTEXT://127.0.0.1:9099"); !strings.Contains(got, vfs.ErrLocked.Error()) {
			t.Fatal(got)
		}
		b.stop()
	})
}

// A start that fails again and again does not make a directory look like an old copy, nor
// does a life that ended before anything was told to the ensemble.
func TestManyFailedStarts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		b.create("t", 1, nil)
		w.dial().mustPut("t", "one")
		b.crash(processDies)
		for range 40 {
			w.through = func(m *vfs.Mem) vfs.FS { // the incarnation is written, its registration is not
				f := vfs.NewFaults(m)
				f.Add(vfs.Rule{Op: vfs.OpRename, Path: "run.meta", Skip: 1, Err: errors.New("out of order")})
				return f
			}
			if got := w.refused(); !strings.Contains(got, "out of order") {
				t.Fatal(got)
			}
		}
		w.through = nil
		for range 40 {
			b = w.start()
			b.crash(processDies)
		}
		b = w.start()
		defer b.stop()
		if got := w.values("t"); got[0] != "one" {
			t.Fatalf("%v", got)
		}
		if got := b.tailOf("/data"); got != meta.TailSameBoot {
			t.Fatalf("registered as %s", got)
		}
	})
}

// The files that a directory needs may be lost or damaged in any way: the start refuses it
// by name, or goes on without trust, and never panics.
func TestDirectoryWithoutItsFiles(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		b.create("t", 1, nil)
		w.dial().mustPut("t", "one")
		b.stop()
		for _, c := range []struct {
			file, refusal string
		}{
			{"run.meta", ""}, {"clean", ""}, {"checkpoints", ""}, {"metadata.seen", ""}, {"ballast", ""}, {"lock", ""},
			{"meta.properties", "/data/meta.properties"}, {"parts", "/data/parts"},
		} {
			disk := w.disk.Clone()
			if err := w.disk.RemoveAll("/data/" + c.file); err != nil {
				t.Fatal(err)
			}
			if c.refusal != "" {
				if got := w.refused(); !strings.Contains(got, c.refusal) {
					t.Errorf("without %s: %s", c.file, got)
				}
				w.disk = disk
				continue
			}
			b := w.start()
			if got := fmt.Sprint(w.values("t")); got != "map[0:one]" {
				t.Errorf("without %s: %s", c.file, got)
			}
			if got, suspect := b.tailOf("/data"), c.file == "run.meta"; (got == meta.TailSuspect) != suspect {
				t.Errorf("without %s the directory is registered as %s", c.file, got)
			}
			b.stop()
		}
	})
}
