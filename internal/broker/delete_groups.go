package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// DeleteGroups (42): 0 to 3; a message for each group from v3.
func (b *Broker) deleteGroups(p *wire.Pending, req *kmsg.DeleteGroupsRequest) wire.Outcome {
	b.o.Groups.Submit(p, req, nil)
	return wire.Parked
}
