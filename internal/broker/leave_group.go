package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// LeaveGroup (13): 0 to 5; several members from v3 (KIP-345).
func (b *Broker) leaveGroup(p *wire.Pending, req *kmsg.LeaveGroupRequest) wire.Outcome {
	b.o.Groups.Submit(p, req, nil)
	return wire.Parked
}
