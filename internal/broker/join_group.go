package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// JoinGroup (11): 0 to 9. It is parked until the group has its members; package group has
// the notes on the versions.
func (b *Broker) joinGroup(p *wire.Pending, req *kmsg.JoinGroupRequest) wire.Outcome {
	b.o.Groups.Submit(p, req, nil)
	return wire.Parked
}
