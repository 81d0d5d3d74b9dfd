package coordinator

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// bubble runs f with a runtime of tables in fake time. The bubble ends only when every
// goroutine has, so each of these tests also shows that Close leaves none behind.
func bubble(t *testing.T, opts Options, f func(t *testing.T, r *Runtime[*request])) {
	synctest.Test(t, func(t *testing.T) {
		opts.Logger = slog.New(slog.DiscardHandler)
		r := New(model.SystemClock(), newTable, opts)
		defer r.Close()
		f(t, r)
	})
}

// send submits a request and lets the shard come to rest.
func send(r *Runtime[*request], text string) *request {
	q := &request{text: text}
	r.Submit(0, q)
	synctest.Wait()
	return q
}

func expect(t *testing.T, q *request, want string) {
	t.Helper()
	if got := q.got(); got != want {
		t.Fatalf("%s: got %q, want %q", q.text, got, want)
	}
}

func TestReplyWaitsForWatermark(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		expect(t, send(r, "get a"), "=")
		l.hold()
		put := send(r, "put a 1")
		get := send(r, "get a")
		expect(t, put, "")
		expect(t, get, "") // what it saw may yet be lost
		l.commit()
		synctest.Wait()
		expect(t, put, "ok")
		expect(t, get, "=1")
		expect(t, send(r, "get a"), "=1")
	})
}

func TestRepliesLeaveInTheOrderOfTheLog(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		l.hold()
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		first := send(r, "put a 1")
		l.commit()
		second := send(r, "put a 2") // not covered by that commit
		expect(t, first, "ok")
		expect(t, second, "")
		l.commit()
		synctest.Wait()
		expect(t, second, "ok")
	})
}

func TestLoad(t *testing.T) {
	bubble(t, Options{LoadBufferBytes: 64}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		old := l.lead(1)
		recs := []record.Record{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("odd")}, {Key: []byte("b"), Value: make([]byte, 300)}}
		for _, rec := range recs {
			b, err := record.Build(nil, record.NewTemplate(), []record.Record{rec})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := old.Append(b); err != nil {
				t.Fatal(err)
			}
		}
		// The last record is not committed when the next leader takes over.
		l.hold()
		b, _ := record.Build(nil, record.NewTemplate(), []record.Record{{Key: []byte("a"), Value: []byte("2")}})
		if _, err := old.Append(b); err != nil {
			t.Fatal(err)
		}
		r.Elect(0, 2, l.lead(2))
		expect(t, send(r, "get a"), "COORDINATOR_LOAD_IN_PROGRESS")
		told := &request{text: "put c 3"}
		r.Tell(0, told)
		synctest.Wait()
		expect(t, told, "")
		l.commit() // the load ends, and what was told goes to the log
		synctest.Wait()
		l.commit()
		synctest.Wait()
		expect(t, told, "ok")
		expect(t, send(r, "get a"), "=2")
		expect(t, send(r, "get c"), "=3")
		expect(t, send(r, "get b"), "="+string(make([]byte, 300)))
	})
}

func TestLoadRetriesReadErrors(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		expect(t, send(r, "put a 1"), "ok")
		r.Resign(0, 1)
		l.mu.Lock()
		l.mu.readErr = kerr.KafkaStorageError
		l.mu.Unlock()
		r.Elect(0, 2, l.lead(2))
		synctest.Wait()
		expect(t, send(r, "get a"), "COORDINATOR_LOAD_IN_PROGRESS")
		l.mu.Lock()
		l.mu.readErr = nil
		l.mu.Unlock()
		<-time.After(time.Second) // fake: the backoff passes
		synctest.Wait()
		expect(t, send(r, "get a"), "=1")
	})
}

func TestResign(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		expect(t, send(r, "get a"), "NOT_COORDINATOR")
		r.Elect(0, 3, l.lead(3))
		synctest.Wait()
		parked := send(r, "park")
		alarm := send(r, "alarm 1h")
		l.hold()
		put := send(r, "put a 1")
		r.Resign(0, 2) // an old message
		synctest.Wait()
		expect(t, parked, "")
		r.Resign(0, 3)
		expect(t, send(r, "get a"), "NOT_COORDINATOR")
		expect(t, parked, "NOT_COORDINATOR")
		expect(t, alarm, "NOT_COORDINATOR")
		expect(t, put, "NOT_COORDINATOR")
		if led := r.Led(); len(led) != 0 {
			t.Fatalf("led: %v", led)
		}
	})
}

// The watermark that a later leader moves must not release what this one promised.
func TestLostLeadershipFailsReplies(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		l.hold()
		put := send(r, "put a 1")
		parked := send(r, "park")
		next := l.lead(2)
		synctest.Wait()
		expect(t, put, "NOT_COORDINATOR")
		expect(t, parked, "NOT_COORDINATOR")
		expect(t, send(r, "get a"), "NOT_COORDINATOR")
		l.commit()
		synctest.Wait()
		expect(t, put, "NOT_COORDINATOR")
		// Elected again, at a newer epoch, while the old shard was never resigned.
		r.Elect(0, 2, next)
		synctest.Wait()
		expect(t, send(r, "get a"), "=1")
		r.Elect(0, 1, l.lead(1)) // an old message changes nothing
		synctest.Wait()
		if led := r.Led(); len(led) != 1 {
			t.Fatalf("led: %v", led)
		}
	})
}

func TestAppendAfterLosingLeadership(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		parked := send(r, "park")
		l.lead(2) // we do not know yet
		expect(t, send(r, "put a 1"), "NOT_COORDINATOR")
		expect(t, parked, "NOT_COORDINATOR")
		if n := l.numBatches(); n != 0 {
			t.Fatalf("%d batches", n)
		}
	})
}

func TestFailedAppendReloads(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		expect(t, send(r, "put a 1"), "ok")
		parked := send(r, "park")
		l.failAppends(kerr.NotEnoughReplicas)
		expect(t, send(r, "put a 2"), "COORDINATOR_NOT_AVAILABLE")
		expect(t, parked, "COORDINATOR_NOT_AVAILABLE")
		expect(t, send(r, "get a"), "COORDINATOR_LOAD_IN_PROGRESS")
		<-time.After(100 * time.Millisecond) // fake: the backoff
		synctest.Wait()
		expect(t, send(r, "get a"), "=1") // not 2, which is not in the log
		expect(t, send(r, "put a 3"), "COORDINATOR_NOT_AVAILABLE")
		l.failAppends(nil)
		<-time.After(199 * time.Millisecond) // it has doubled
		synctest.Wait()
		expect(t, send(r, "get a"), "COORDINATOR_LOAD_IN_PROGRESS")
		<-time.After(time.Millisecond)
		synctest.Wait()
		expect(t, send(r, "put a 4"), "ok")
		l.failAppends(kerr.MessageTooLarge)
		expect(t, send(r, "put a 5"), "UNKNOWN_SERVER_ERROR")
	})
}

func TestCloseWhileWaiting(t *testing.T) {
	bubble(t, Options{MaxLoads: 1}, func(t *testing.T, r *Runtime[*request]) {
		failing, held := &fakeLog{}, &fakeLog{}
		first := held.lead(1)
		b, _ := record.Build(nil, record.NewTemplate(), []record.Record{{Key: []byte("a")}})
		held.hold()
		if _, err := first.Append(b); err != nil {
			t.Fatal(err)
		}
		r.Elect(1, 2, held.lead(2)) // waits for the watermark until Close
		r.Elect(0, 1, failing.lead(1))
		synctest.Wait()
		failing.failAppends(kerr.NotEnoughReplicas)
		expect(t, send(r, "put a 1"), "COORDINATOR_NOT_AVAILABLE") // now in its backoff
		r.Close()
		r.Elect(0, 9, failing.lead(9))
		expect(t, send(r, "get a"), "NOT_COORDINATOR")
	})
}

func TestInboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(model.SystemClock(), newTable, Options{MaxInbox: 3})
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		// The shard's goroutine cannot take the inbox while its log is locked.
		l.mu.Lock()
		first := &request{text: "put a 1"}
		r.Submit(0, first)
		for s := r.mu.shards[0]; ; { // until it has taken the first
			s.mu.Lock()
			n := len(s.mu.inbox)
			s.mu.Unlock()
			if n == 0 {
				break
			}
		}
		var qs []*request
		for range 5 {
			q := &request{text: "get a"}
			qs = append(qs, q)
			r.Submit(0, q)
		}
		l.mu.Unlock()
		synctest.Wait()
		for i, q := range qs {
			if i < 3 {
				expect(t, q, "=1")
			} else {
				expect(t, q, "COORDINATOR_NOT_AVAILABLE")
			}
		}
		r.Close()
	})
}

func TestDeadline(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		began := time.Now()
		q := send(r, "alarm 90s")
		<-time.After(2 * time.Minute)
		synctest.Wait()
		expect(t, q, "woken")
		if d := q.at.Sub(began); d != 90*time.Second {
			t.Fatalf("woken after %s", d)
		}
	})
}

// A shard that was held up handles what has arrived before it holds silence against
// anybody.
func TestCallsComeBeforeDeadlines(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		alarm := send(r, "alarm 10s")
		gate := make(chan struct{})
		l.mu.Lock()
		l.mu.gate = gate
		l.mu.Unlock()
		put := send(r, "put a 1")
		<-time.After(9 * time.Second)
		calm := send(r, "calm")
		<-time.After(9 * time.Second)
		gate <- struct{}{}
		synctest.Wait()
		expect(t, put, "ok")
		expect(t, calm, "ok")
		expect(t, alarm, "calmed")
	})
}

func TestBatches(t *testing.T) {
	bubble(t, Options{MaxBatchBytes: 1000}, func(t *testing.T, r *Runtime[*request]) {
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		expect(t, send(r, "many"), "ok")
		if n := l.numBatches(); n < 10 || n > 20 {
			t.Fatalf("100 records of 100 bytes in %d batches of 1000 bytes", n)
		}
		r.Resign(0, 1)
		r.Elect(0, 2, l.lead(2))
		synctest.Wait()
		expect(t, send(r, "get k99"), "="+string(make([]byte, 100)))
	})
}

// Calls that arrive while an append runs share the next one.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(model.SystemClock(), newTable, Options{})
		l := &fakeLog{}
		r.Elect(0, 1, l.lead(1))
		synctest.Wait()
		l.mu.Lock() // the first append cannot go on
		for i := range 100 {
			r.Submit(0, &request{text: fmt.Sprintf("put a %d", i)})
		}
		l.mu.Unlock()
		synctest.Wait()
		if n := l.numBatches(); n > 2 {
			t.Fatalf("%d appends for 100 calls", n)
		}
		q := &request{text: "get a"}
		r.Submit(0, q)
		synctest.Wait()
		expect(t, q, "=99")
		r.Close()
	})
}

func TestCountdown(t *testing.T) {
	n := 0
	c := NewCountdown(3, func() { n++ })
	for i := range 3 {
		if n != 0 {
			t.Fatalf("done after %d", i)
		}
		c.Done()
	}
	if n != 1 {
		t.Fatalf("ran %d times", n)
	}
}

// The values are Java's: "polygenelubricants".hashCode() is Integer.MIN_VALUE.
func TestPartitionOf(t *testing.T) {
	for key, hash := range map[string]int32{
		"":                   0,
		"a":                  97,
		"hello":              99162322,
		"polygenelubricants": 0,
		"Aa":                 2112,
		"BB":                 2112,
		"한글":                 0xd55c*31 + 0xae00,
		"\U0001F600":         0xd83d*31 + 0xde00,
	} {
		if got := PartitionOf(key, 1<<31-1); got != hash {
			t.Errorf("%q: got %d, want %d", key, got, hash)
		}
		if got := PartitionOf(key, 50); got != hash%50 {
			t.Errorf("%q of 50: got %d", key, got)
		}
	}
}
