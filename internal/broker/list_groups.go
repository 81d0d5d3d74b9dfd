package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// ListGroups (16): 0 to 5: the groups of this broker's coordinators; clients ask every
// broker. Filters by state from v4 (KIP-518), by type from v5 (KIP-848).
func (b *Broker) listGroups(p *wire.Pending, req *kmsg.ListGroupsRequest) wire.Outcome {
	b.o.Groups.Submit(p, req, nil)
	return wire.Parked
}
