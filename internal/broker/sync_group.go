package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// SyncGroup (14): 0 to 5. It is parked until the leader's assignment is in the log.
func (b *Broker) syncGroup(p *wire.Pending, req *kmsg.SyncGroupRequest) wire.Outcome {
	b.o.Groups.Submit(p, req, nil)
	return wire.Parked
}
