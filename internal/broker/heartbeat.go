package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// Heartbeat (12): 0 to 4.
func (b *Broker) heartbeat(p *wire.Pending, req *kmsg.HeartbeatRequest) wire.Outcome {
	b.o.Groups.Submit(p, req, nil)
	return wire.Parked
}
