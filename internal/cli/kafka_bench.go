package cli

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
)

// fetchMeter counts the answers to fetches and their bytes.
type fetchMeter struct {
	fetches, bytes, largest atomic.Int64
}

// OnBrokerRead is called by the client for each answer it has read.
func (m *fetchMeter) OnBrokerRead(_ kgo.BrokerMetadata, key int16, n int, _, _ time.Duration, err error) {
	if err != nil || key != int16(kmsg.Fetch) {
		return
	}
	m.fetches.Add(1)
	m.bytes.Add(int64(n))
	for {
		top := m.largest.Load()
		if int64(n) <= top || m.largest.CompareAndSwap(top, int64(n)) {
			return
		}
	}
}

// openMeteredConsumer is openConsumer for a reader to the end that counts its fetches.
func (a *app) openMeteredConsumer(ctx context.Context, topic string, at map[model.TopicPartition]int64) (*consumer, *fetchMeter, error) {
	m := &fetchMeter{}
	c, err := a.openConsumer(ctx, consumeSpec{topics: []string{topic}, toEnd: true}, at, kgo.WithHooks(m))
	return c, m, err
}
