// Package broker answers requests: one file per API. It checks a request, calls the
// room that knows (replica for the log, group for groups, the elected controller
// through meta.Admin), and shapes the answer. It holds no state of the cluster.
//
//	server -> Broker.Handle -> produce.go, fetch.go      own codecs, nothing allocated
//	                        -> every other API           kmsg
//
// An API is served by a function in the table of apis.go; a request whose answer must
// wait for disk, ensemble or other members is parked (wire.Pending) and completed from
// another goroutine. Errors of any room become codes here and nowhere else.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// Broker serves the Kafka API. It implements wire.Handler.
type Broker struct {
	// noTxnLogged is when the log last heard of a client that wants transactions, in Clock.Boot
	// plus 1; 0: never.
	noTxnLogged atomic.Int64
	o           Options
	apis        apiTable

	producerIDs producerIDs
	sessions    *sessionCache
	// noAborted is the empty list of aborted transactions, as opposed to none.
	noAborted []wire.AbortedTransaction
	// fetchStates is a pool of *fetchState.
	fetchStates sync.Pool

	// async counts the goroutines that serve parked admin requests; ctx ends them.
	async  sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

// New builds a broker; it starts nothing.
func New(o Options) *Broker {
	b := &Broker{o: o.withDefaults()}
	b.apis = newAPITable()
	b.sessions = newSessionCache(b.o.FetchSessions, b.o.FetchSessionBytes)
	b.noAborted = []wire.AbortedTransaction{}
	b.producerIDs.allocate = b.o.AllocateProducerIDs
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Close ends what parked requests still do and waits for it. Call it after the server
// stopped.
func (b *Broker) Close() {
	b.cancel()
	b.async.Wait()
}

// Handle implements wire.Handler.
func (b *Broker) Handle(p *wire.Pending) wire.Outcome {
	a := b.apis.find(p.Key)
	if a == nil || p.Version < a.min || p.Version > a.max {
		if p.Key == int16(kmsg.ApiVersions) {
			return b.apiVersionsUnsupported(p)
		}
		name := kmsg.NameForKey(p.Key)
		if a == nil {
			p.CloseReason = fmt.Sprintf("API %s (key %d) is not served here", name, p.Key)
		} else {
			p.CloseReason = fmt.Sprintf("API %s version %d is not served here, only %d to %d", name, p.Version, a.min, a.max)
		}
		return wire.CloseConn
	}
	if a.hot != nil {
		return a.hot(b, p)
	}
	decoded := 0
	req, err := wire.DecodeRequest(p.Key, p.Version, p.Body, func(n int) error {
		decoded = n
		return p.Reserve(n)
	})
	if err == nil {
		err = p.ReserveAnswer(b.answerCost(req, decoded))
	}
	if err != nil {
		p.CloseReason = err.Error()
		return wire.CloseConn
	}
	return a.serve(b, p, req)
}

// respond appends resp as the answer.
func respond(p *wire.Pending, resp kmsg.Response) wire.Outcome {
	resp.SetVersion(p.Version)
	p.Resp = resp.AppendTo(p.Resp)
	return wire.Done
}

// answer is a parked request's answer, encoded when its turn to be sent has come.
type answer struct{ resp kmsg.Response }

// EncodeAnswer implements wire.Encoder.
func (a answer) EncodeAnswer(p *wire.Pending) { respond(p, a.resp) }

// complete answers a parked request.
func complete(p *wire.Pending, resp kmsg.Response) {
	p.Encode = answer{resp}
	p.Complete()
}

// later serves a request on a goroutine of its own: for admin calls that wait for the
// ensemble. f gets a context that ends with timeoutMillis or with the broker.
func (b *Broker) later(p *wire.Pending, timeoutMillis int32, f func(ctx context.Context) kmsg.Response) wire.Outcome {
	d := time.Duration(timeoutMillis) * time.Millisecond
	if d <= 0 || d > maxAdminWait {
		d = maxAdminWait
	}
	b.async.Add(1)
	go func() {
		defer b.async.Done()
		ctx, cancel := context.WithTimeout(b.ctx, d)
		defer cancel()
		complete(p, f(ctx))
	}()
	return wire.Parked
}

// maxAdminWait bounds an admin call whose client gave no timeout.
const maxAdminWait = 60 * time.Second

// adminError turns what an admin call returned into a protocol error.
func adminError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return kerr.With(kerr.RequestTimedOut, "the ensemble did not answer in time: %v", err)
	case errors.Is(err, context.Canceled):
		return kerr.With(kerr.NotController, "this broker is shutting down")
	}
	return err
}

// applied waits until the image that this broker serves from holds revision rev, so
// that a client sees the effect of its own call. A wait that runs out is no error: the
// effect is committed and will be seen.
func (b *Broker) applied(ctx context.Context, rev int64) {
	if rev > 0 {
		if err := b.o.WaitApplied(ctx, rev); err != nil {
			b.o.Logger.Warn("the change is committed but not applied here yet", "revision", rev, "err", err)
		}
	}
}

// nodeID is this broker's id.
func (b *Broker) nodeID() model.BrokerID { return b.o.NodeID }

// logError logs what a client cannot be told in detail.
func (b *Broker) logError(msg string, err error, args ...any) {
	b.o.Logger.Error(msg, append([]any{slog.Any("err", err)}, args...)...)
}

// Serves says whether an API is served in a version.
func (b *Broker) Serves(key, version int16) bool {
	a := b.apis.find(key)
	return a != nil && version >= a.min && version <= a.max
}

// Sessions is the number of fetch sessions.
func (b *Broker) Sessions() int { return b.sessions.len() }
