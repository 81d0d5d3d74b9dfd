package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// stateful_*_test.go: bytes become a sequence of valid requests, restarts and crashes against
// one broker, and a small model says what each answer may be:
//
//   - every acknowledged record is at its offset with its bytes, nothing lies between, and
//     what was refused is nowhere (stateful_log_test.go);
//   - log start <= high watermark <= log end; the first two never fall;
//   - a batch that an idempotent producer repeats is answered with its first offset;
//   - a committed offset is what was committed last, until its topic or group is gone
//     (stateful_group_test.go);
//   - in one generation of a group each partition has one owner;
//   - an answer has only error codes that the model knows for its request.
//
// A failing input is kept by the fuzzer, or shrunk by rapid:
//
//	go test ./internal/node -run '^$' -fuzz FuzzStateful -fuzztime 20s -fuzzminimizetime 10x
//	go test ./internal/node -run TestStateful

// statefulSteps bounds one sequence.
const statefulSteps = 80

// script yields choices from bytes; when they are used up the sequence ends.
type script struct{ b []byte }

// n returns a number from 0 to k-1, 0 at the end of the script.
func (s *script) n(k int) int {
	if len(s.b) == 0 {
		return 0
	}
	v := int(s.b[0]) % k
	s.b = s.b[1:]
	return v
}

// player runs one script.
type player struct {
	*script
	w    *world
	b    *running
	main *line
	// commit: the topics are durable before they are acknowledged, so that the power may fail.
	commit bool

	topics  map[string]*topicModel
	nextPID int64
	session *sessionModel
	groups  map[string]*groupModel
	members []*memberModel
	seed    uint64
	trace   []string
}

// failure is a broken rule; player methods panic with it.
type failure struct{ error }

// fail ends the sequence.
func (p *player) fail(format string, args ...any) {
	panic(failure{fmt.Errorf(format, args...)})
}

func (p *player) check(err error) {
	if err != nil {
		p.fail("%w", err)
	}
}

// note keeps what was done, for the report of a failure.
func (p *player) note(format string, args ...any) {
	p.trace = append(p.trace, fmt.Sprintf(format, args...))
}

// playScript runs one sequence in a bubble of its own and returns the rule that it broke.
func playScript(t *testing.T, b []byte) (err error) {
	synctest.Test(t, func(t *testing.T) {
		clock := model.SystemClock()
		w := newWorld(t, clock)
		defer w.store.Close()
		p := &player{script: &script{b}, w: w, topics: map[string]*topicModel{}, groups: map[string]*groupModel{}, nextPID: 1 << 33}
		defer p.end()
		defer func() {
			switch r := recover().(type) {
			case nil:
			case failure:
				err = r.error
				for i, line := range p.trace {
					t.Logf("%3d %s", i, line)
				}
			default:
				panic(r)
			}
		}()
		p.commit = p.n(2) == 1
		p.start()
		for i := 0; i < statefulSteps && len(p.script.b) > 0; i++ {
			p.step()
			p.invariants()
		}
		p.verify()
		p.crash(nil)
		p.verify()
	})
	return err
}

func (p *player) start() {
	policy := "os"
	if p.commit {
		policy = "commit"
	}
	p.b = p.w.start("offsets.topic.num.partitions=2", "kalda.flush.policy="+policy, "auto.create.topics.enable=false")
	p.dialMain()
}

// dialMain opens the connection of most requests, and asks for versions as clients do: one
// that brings no request is closed after a while.
func (p *player) dialMain() {
	p.main, p.session = p.dial(), nil
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, "stateful", "1"
	p.must("ApiVersions", p.call(p.main, req).(*kmsg.ApiVersionsResponse).ErrorCode, nil)
}

// end takes everything down, whatever state it is in.
func (p *player) end() {
	p.hangUp()
	if p.b != nil {
		p.b.stop()
	}
}

// hangUp ends all connections and forgets what hung on them.
func (p *player) hangUp() {
	if p.main != nil {
		_ = p.main.c.Close()
		p.main = nil
	}
	for _, m := range p.members {
		m.hangUp()
	}
	p.session = nil
}

func (p *player) step() {
	switch n := p.n(40); {
	case n < 10:
		p.produce()
	case n < 17:
		p.fetch()
	case n < 19:
		p.listOffsets()
	case n < 22:
		p.createTopic()
	case n < 23:
		p.deleteTopic()
	case n < 24:
		p.growTopic()
	case n < 26:
		p.deleteRecords()
	case n < 27:
		p.configure()
	case n < 28:
		p.restart()
	case n < 30:
		p.crashing()
	case n < 31:
		p.wait()
	case n < 36:
		p.member()
	case n < 38:
		p.commitSimple()
	case n < 39:
		p.fetchOffsets()
	default:
		p.dropGroup()
	}
}

// wait lets time pass: background flushes, timeouts of members.
func (p *player) wait() {
	d := []time.Duration{time.Millisecond, time.Second, 6 * time.Second, 15 * time.Second}[p.n(4)]
	p.note("wait %v", d)
	<-time.After(d)
	synctest.Wait()
}

// restart stops the broker in order and starts it again.
func (p *player) restart() {
	p.note("restart")
	p.hangUp()
	b := p.b
	p.b = nil
	b.stop()
	p.start()
	p.settle()
}

// crashing kills the broker, perhaps while a batch is under way.
func (p *player) crashing() {
	var sent *sentBatch
	if p.n(2) == 1 {
		sent = p.sendUnderWay()
	}
	p.crash(sent)
}

func (p *player) crash(sent *sentBatch) {
	after := processDies
	how := "the process dies"
	if p.commit && (len(p.script.b) == 0 || p.n(2) == 1) {
		p.seed++
		after, how = func(m *vfs.Mem) *vfs.Mem { return m.CrashClone(p.seed) }, "the power fails"
	}
	p.note("%s", how)
	b := p.b
	p.b = nil
	b.crash(after)
	p.hangUp()
	p.start()
	p.afterCrash(sent)
	p.settle()
}

// line is a connection whose answers are read as they come.
type line struct {
	c       net.Conn
	corr    int32
	answers chan []byte
}

func (p *player) dial() *line {
	c, err := p.w.dialer(context.Background(), "tcp", brokerAddr)
	p.check(err)
	l := &line{c: c, answers: make(chan []byte, 4)} // the tests await each answer, or a few at most
	go func() {
		defer close(l.answers)
		for {
			f, err := readFrame(c)
			if err != nil {
				return
			}
			l.answers <- f
		}
	}()
	return l
}

var errClosed = errors.New("the broker closed the connection")

func (l *line) send(req kmsg.Request) error {
	l.corr++
	_, err := l.c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("c")).AppendRequest(nil, req, l.corr))
	return err
}

// read takes the next answer apart.
func (l *line) read(frame []byte, resp kmsg.Response) error {
	corr, body := cutHeader(frame, resp)
	if corr != l.corr {
		return fmt.Errorf("answer %d came in place of %d", corr, l.corr)
	}
	if err := resp.ReadFrom(body); err != nil {
		return fmt.Errorf("%T does not parse: %w", resp, err)
	}
	return nil
}

// call sends a request and awaits the answer.
func (p *player) call(l *line, req kmsg.Request) kmsg.Response {
	p.check(l.send(req))
	resp := req.ResponseKind()
	select {
	case f, ok := <-l.answers:
		if !ok {
			p.fail("%T: %w", req, errClosed)
		}
		p.check(l.read(f, resp))
	case <-time.After(2 * time.Minute):
		p.fail("%T: no answer in two minutes", req)
	}
	return resp
}

// legal fails unless the code is 0 or one of those.
func (p *player) legal(what string, code int16, errs ...*kerr.Error) {
	if code == 0 {
		return
	}
	for _, e := range errs {
		if code == e.Code {
			return
		}
	}
	e, _ := kerr.ForCode(code)
	p.fail("%s is answered %v", what, e)
}

// must fails unless the code is that of e; nil is no error.
func (p *player) must(what string, code int16, e *kerr.Error) {
	want := int16(0)
	if e != nil {
		want = e.Code
	}
	if code != want {
		got, _ := kerr.ForCode(code)
		p.fail("%s is answered %v, want %v", what, got, e)
	}
}

// A few hundred random sequences, shrunk when one fails.
func TestStateful(t *testing.T) {
	began := time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 1, 600).Draw(rt, "script")
		if time.Since(began) > 2*time.Second {
			return // the rest is for the fuzzer
		}
		if err := playScript(t, b); err != nil {
			rt.Fatal(err)
		}
	})
}

// FuzzStateful is TestStateful for the fuzzer.
func FuzzStateful(f *testing.F) {
	for _, seed := range statefulSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := playScript(t, b); err != nil {
			t.Fatal(err)
		}
	})
}

// statefulSeeds are scripts that reach far into the steps; the fuzzer goes on from them. Some
// are anything, others mostly do what one kind of step does, since a group of two members
// that both know what they own takes a dozen steps without much between.
func statefulSeeds() [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	var out [][]byte
	for _, focus := range [][]int{
		nil, // anything
		{31, 32, 33, 34, 35},
		{31, 32, 33, 34, 35, 27, 28, 30},
		{0, 1, 2, 24, 25},
		{0, 10, 11, 22, 23, 26, 28},
		{36, 37, 38, 22, 19, 27},
	} {
		for range 12 {
			b := make([]byte, 600)
			for i := range b {
				if b[i] = byte(r.Uint32()); focus != nil && r.IntN(3) > 0 {
					b[i] = byte(focus[r.IntN(len(focus))] + 40*r.IntN(6))
				}
			}
			out = append(out, b)
		}
	}
	return out
}
