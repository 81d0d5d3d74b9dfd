package node

import (
	"context"
	"fmt"
	"sync"
)

// stage is a set of goroutines that end together.
type stage struct {
	name   string
	cancel context.CancelFunc
	wg     *sync.WaitGroup
}

// run starts f as a stage of its own; f must return when its context ends.
func (b *Broker) run(name string, fs ...func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := stage{name: name, cancel: cancel, wg: &sync.WaitGroup{}}
	for _, f := range fs {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			if err := f(ctx); err != nil && ctx.Err() == nil {
				b.fail(fmt.Errorf("%s: %w", name, err))
			}
		}()
	}
	b.stages = append(b.stages, s)
}

// stop ends the newest stages down to and including the one named.
func (b *Broker) stop(name string) {
	for len(b.stages) > 0 {
		s := b.stages[len(b.stages)-1]
		b.stages = b.stages[:len(b.stages)-1]
		s.cancel()
		s.wg.Wait()
		if s.name == name {
			return
		}
	}
}

func (b *Broker) fail(err error) {
	if b.o.OnFailure != nil {
		b.o.OnFailure(err)
		return
	}
	b.log.Error("a part of the broker failed", "err", err)
}
