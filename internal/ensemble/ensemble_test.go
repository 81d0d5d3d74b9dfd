package ensemble

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/meta/storetest"
)

// logBuffer collects what a server logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func openTest(t testing.TB, dir string, log *slog.Logger) *Ensemble {
	t.Helper()
	e, err := Open(t.Context(), Options{Dir: dir, SmallWAL: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}

func subject(e *Ensemble) storetest.Subject {
	return storetest.Subject{Store: e.Store(), Compact: func(rev int64) error {
		_, err := e.store.client.Compact(context.Background(), rev)
		return err
	}}
}

func TestEmbeddedStore(t *testing.T) {
	defer goleak.VerifyNone(t)
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		return subject(openTest(t, t.TempDir(), nil))
	})
}

// startExternal runs an etcd server with a client listener on a free loopback port.
func startExternal(t *testing.T) (address string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(slog.New(slog.DiscardHandler)))
	free := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenPeerUrls, cfg.ListenClientUrls = []url.URL{free}, []url.URL{free}
	cfg.AdvertiseClientUrls = []url.URL{free}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(20 * time.Second):
		t.Fatal("etcd is not ready after 20 s")
	}
	return e.Clients[0].Addr().String()
}

func TestExternalStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		e, err := Open(t.Context(), Options{URL: "etcd://" + startExternal(t) + "/some/root"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		if e.Prefix() != "some/root" || e.Exclusive() {
			t.Errorf("prefix %q, exclusive %v", e.Prefix(), e.Exclusive())
		}
		return subject(e)
	})
}

func TestExternalUnreachable(t *testing.T) {
	defer goleak.VerifyNone(t)
	_, err := Open(t.Context(), Options{URL: "etcd://127.0.0.1:1", DialTimeout: 200 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1 does not answer") {
		t.Fatalf("error %v: want one that names the endpoint", err)
	}
}

// What was written is there after a restart, with its revisions; and a healthy start, fresh or not,
// logs nothing at all.
func TestEmbeddedRestart(t *testing.T) {
	defer goleak.VerifyNone(t)
	var logs logBuffer
	log := slog.New(slog.NewTextHandler(&logs, nil))
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	var created int64
	for round := range 3 {
		e, err := Open(t.Context(), Options{Dir: dir, SmallWAL: true, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		kv, _, err := e.Store().Get(t.Context(), "/k")
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			res, err := e.Store().Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.Put("/k", []byte("v"))}})
			if err != nil {
				t.Fatal(err)
			}
			created = res.Revision
		} else if string(kv.Value) != "v" || kv.CreateRevision != created {
			t.Fatalf("round %d: %+v, want v created at %d", round, kv, created)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s := logs.String(); s != "" {
		t.Errorf("healthy starts logged:\n%s", s)
	}
}

// The bridge lets through what matters and holds back the known false alarm.
func TestLogBridge(t *testing.T) {
	var logs logBuffer
	lg := zapLogger(slog.New(slog.NewTextHandler(&logs, nil)))
	lg.Info("small talk")
	lg.Error("failed to update storage version")
	lg.Warn("failed to publish local member to cluster through raft", zap.String("error", "etcdserver: too many requests"))
	lg.Warn("c5a5ada0632ee857 cannot campaign at term 2 since there are still pending configuration changes to apply")
	lg.Warn("slow disk", zap.String("took", "2s"))
	lg.With(zap.String("member", "m")).Error("bad disk")
	got := logs.String()
	for _, want := range []string{`level=WARN msg="slow disk" component=etcd took=2s`, `level=ERROR msg="bad disk" component=etcd member=m`} {
		if !strings.Contains(got, want) {
			t.Errorf("log lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "small talk") || strings.Contains(got, "publish") || strings.Contains(got, "campaign") || strings.Contains(got, "storage version") {
		t.Errorf("log holds what it should not:\n%s", got)
	}
}

// A single node listens on nothing: no TCP port, no socket file.
func TestEmbeddedOpensNoSocket(t *testing.T) {
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Skip("needs Linux's /proc to list this process's sockets")
	}
	before := sockets(t)
	e := openTest(t, t.TempDir(), nil)
	if _, _, err := e.Store().Get(t.Context(), "/k"); err != nil {
		t.Fatal(err)
	}
	for s := range sockets(t) {
		if !before[s] {
			t.Errorf("the embedded ensemble holds %s", s)
		}
	}
	// The same look finds an etcd that does listen.
	startExternal(t)
	if len(sockets(t)) <= len(before) {
		t.Fatal("a listening etcd is not seen: this test proves nothing")
	}
}

// sockets lists the open sockets of this process, whatever their family.
func sockets(t *testing.T) map[string]bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			found[to] = true
		}
	}
	return found
}

func TestParseURL(t *testing.T) {
	for _, c := range []struct{ in, endpoints, prefix, err string }{
		{"etcd://a:1,b:2/x/y", "a:1 b:2", "x/y", ""},
		{"etcd://a", "a:2379", "", ""},
		{"etcd://a,[::1]:5/", "a:2379 [::1]:5", "", ""},
		{"etcd://[fe80::1]/p", "[fe80::1]:2379", "p", ""},
		{"http://a:1", "", "", "want etcd://"},
		{"etcd:///p", "", "", "is not a host and port"},
		{"etcd://a:1,,b:1", "", "", "is not a host and port"},
		{"etcd://user@a:1", "", "", "is not a host and port"},
	} {
		endpoints, prefix, err := ParseURL(c.in)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || strings.Join(endpoints, " ") != c.endpoints || prefix != c.prefix {
			t.Errorf("%s: %v %q %v", c.in, endpoints, prefix, err)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for v, good := range map[string]bool{
		"3.5.17": false, "3.5.18": true, "3.4.40": false, "3.6.0": true, "3.7.3": true,
		"4.0.0": true, "2.3.8": false, "": false, "abc": false, "3.5.18-rc.1": true,
	} {
		if err := checkVersion(v); (err == nil) != good {
			t.Errorf("%q: %v, want good %v", v, err, good)
		}
	}
}

// putHistory changes a key and returns the last revision but one, which only history has.
func putHistory(t *testing.T, e *Ensemble) int64 {
	t.Helper()
	var rev int64
	for range 3 {
		r, err := e.store.client.Put(t.Context(), "key", "value")
		if err != nil {
			t.Fatal(err)
		}
		rev = r.Header.Revision
	}
	return rev - 1
}

// readable says whether history still has a revision.
func readable(t *testing.T, e *Ensemble, rev int64) bool {
	t.Helper()
	_, err := e.store.client.Get(t.Context(), "key", clientv3.WithRev(rev))
	if err != nil && !errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		t.Fatal(err)
	}
	return err == nil
}

// The first round of a life forgets what was before it, also of a life that was too short for any
// round; later ones keep what changed since the round before.
func TestThePastIsForgotten(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	forget := func(e *Ensemble) {
		t.Helper()
		if err := e.embedded.past.forget(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e := openDir(t, dir)
	before := putHistory(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openDir(t, dir)
	if !readable(t, e, before) {
		t.Error("the start itself forgot something")
	}
	forget(e)
	if readable(t, e, before) {
		t.Error("what was before this life can still be read")
	}
	young := putHistory(t, e)
	forget(e)
	if !readable(t, e, young) {
		t.Error("what changed since the last round cannot be read any more")
	}
	forget(e)
	forget(e) // nothing happened since
	if readable(t, e, young) {
		t.Error("what changed before the last round can still be read")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// failingCompact is a client whose compactions fail while err is set.
type failingCompact struct {
	clientv3.KV
	err error
}

func (f *failingCompact) Compact(ctx context.Context, rev int64, opts ...clientv3.CompactOption) (*clientv3.CompactResponse, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.KV.Compact(ctx, rev, opts...)
}

// The round after one that failed forgets what that one had to, and all that changed until
// then; the first round of a life is no exception.
func TestAFailedRoundIsMadeUpFor(t *testing.T) {
	e := openTest(t, t.TempDir(), nil)
	e.embedded.past.stop() // the rounds are those of the test
	kv := &failingCompact{KV: e.store.client.KV}
	p := &past{client: &clientv3.Client{KV: kv}}
	for _, round := range []string{"first", "later"} {
		old := putHistory(t, e)
		kv.err = errors.New("no leader")
		if err := p.forget(t.Context()); !errors.Is(err, kv.err) {
			t.Fatalf("%s round: %v", round, err)
		}
		young := putHistory(t, e)
		kv.err = nil
		if err := p.forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		if readable(t, e, old) {
			t.Errorf("%s round: what was before the failed round can still be read", round)
		}
		if !readable(t, e, young) {
			t.Errorf("%s round: what changed since the failed round cannot be read any more", round)
		}
	}
}
