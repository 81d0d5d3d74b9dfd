package node

import (
	"context"
	"errors"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/meta"
)

// reload hands a configuration to the goroutine that applies images.
type reload struct {
	next *config.Config
	// restart gets the keys that wait for a restart; capacity 1, the caller may have left.
	restart chan []string
}

// Reload takes the node's configuration as it was read anew. What may change while the
// broker runs is in force when Reload returns, for the controller's plans soon after;
// restart names the keys that wait for the next start. A broker that is closed, or closes
// before ctx ends, is an error.
func (b *Broker) Reload(ctx context.Context, next *config.Config) (restart []string, err error) {
	r := reload{next: next, restart: make(chan []string, 1)}
	select {
	case b.reloads <- r:
	case <-b.closing:
		return nil, errors.New("the broker is stopping")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return <-r.restart, nil
}

// takeConfig makes next the configuration as far as it can change now.
func (b *Broker) takeConfig(im *meta.Image, next *config.Config) (restart []string) {
	merged, restart := b.config.Load().Reload(next)
	b.config.Store(merged)
	b.refresh(im)
	b.controller.SetRules(b.controllerRules())
	return restart
}

// refresh computes everything anew that follows from configuration and dynamic configs.
func (b *Broker) refresh(im *meta.Image) {
	opts, err := b.config.Load().BrokerDynamic(dynamic(im, b.id))
	if err != nil {
		b.log.Error("a dynamic broker config cannot be used", "err", err)
	}
	b.opts.Store(&opts)
	b.limits.connections.Set(connOptions(&opts, fileLimit()))
	b.replicas.Refresh(im)
}
