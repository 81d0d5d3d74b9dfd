package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// DescribeGroups (15): 0 to 6. Authorized operations from v3; from v6 a group that does
// not exist is an error (KIP-1043). Our own tools get the rebalance history as a tagged
// field (docs/format/kalda-tags.md).
func (b *Broker) describeGroups(p *wire.Pending, req *kmsg.DescribeGroupsRequest) wire.Outcome {
	var finish func(kmsg.Response)
	if req.IncludeAuthorizedOperations {
		finish = func(r kmsg.Response) {
			groups := r.(*kmsg.DescribeGroupsResponse).Groups
			for i := range groups {
				if groups[i].ErrorCode == 0 {
					groups[i].AuthorizedOperations = groupOperations
				}
			}
		}
	}
	b.o.Groups.Submit(p, req, finish)
	return wire.Parked
}
