package broker

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// producerIDs hands out producer ids from blocks of the ensemble's counter. Ids of a
// block that was not used up when the process ends are never used again.
type producerIDs struct {
	allocate func(context.Context) (model.ProducerID, int64, error)

	mu   sync.Mutex
	next model.ProducerID
	left int64
	// fetching is closed when the block that is being allocated is there.
	fetching chan struct{}
}

// take returns an id at once if the present block has one.
func (p *producerIDs) take() (model.ProducerID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return 0, false
	}
	p.left--
	p.next++
	return p.next - 1, true
}

// wait returns an id, allocating a block if there is none; callers share one allocation.
func (p *producerIDs) wait(ctx context.Context) (model.ProducerID, error) {
	for {
		if id, ok := p.take(); ok {
			return id, nil
		}
		p.mu.Lock()
		if c := p.fetching; c != nil {
			p.mu.Unlock()
			select {
			case <-c:
				continue
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		c := make(chan struct{})
		p.fetching = c
		p.mu.Unlock()
		first, n, err := p.allocate(ctx)
		p.mu.Lock()
		if err == nil {
			p.next, p.left = first, n
		}
		p.fetching = nil
		close(c)
		p.mu.Unlock()
		if err != nil {
			return 0, err
		}
	}
}

// InitProducerID (22): 0 to 5. Only idempotent producers: a transactional id is refused
// with an error that clients treat as fatal, and v6 (KIP-939) is not stable in Kafka.
func (b *Broker) initProducerID(p *wire.Pending, req *kmsg.InitProducerIDRequest) wire.Outcome {
	resp := kmsg.NewPtrInitProducerIDResponse()
	fail := func(err error) kmsg.Response {
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = kerr.Code(err), -1, -1
		return resp
	}
	if req.TransactionalID != nil {
		// There is no transaction coordinator; TRANSACTIONAL_ID_AUTHORIZATION_FAILED is
		// what Java, librdkafka and franz-go give up on at once instead of retrying.
		b.noteNoTransactions(*req.TransactionalID, p.ClientID)
		return respond(p, fail(kerr.TransactionalIDAuthorizationFailed))
	}
	if req.Version >= 3 && (req.ProducerID >= 0) != (req.ProducerEpoch >= 0) {
		return respond(p, fail(kerr.InvalidRequest))
	}
	// A producer that names its id (KIP-360) gets a fresh one: without transactions the
	// id carries no state that would have to be continued.
	if id, ok := b.producerIDs.take(); ok {
		resp.ProducerID, resp.ProducerEpoch = int64(id), 0
		return respond(p, resp)
	}
	return b.later(p, 0, func(ctx context.Context) kmsg.Response {
		id, err := b.producerIDs.wait(ctx)
		if err != nil {
			b.logError("no producer id could be allocated", err)
			return fail(kerr.CoordinatorNotAvailable)
		}
		resp.ProducerID, resp.ProducerEpoch = int64(id), 0
		return resp
	})
}

// noteNoTransactions tells the log of a client that wants transactions, once a minute: both
// names may have 32 KiB, and it may ask as often as it likes.
func (b *Broker) noteNoTransactions(id, client string) {
	const longest = 200
	now, last := int64(b.o.Clock.Boot())+1, b.noTxnLogged.Load()
	if last != 0 && now-last < int64(time.Minute) || !b.noTxnLogged.CompareAndSwap(last, now) {
		return
	}
	b.o.Logger.Warn("transactions are not available in this version",
		"transactional_id", id[:min(len(id), longest)], "client", client[:min(len(client), longest)])
}
