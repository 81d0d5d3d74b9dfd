package group

import (
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The administrators' commands of the scripts.

func (d *driver) deleteOffsets(td *datadriven.TestData) {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = arg(td, "group", "g")
	want := parseOffsets(td)
	for _, t := range sortedKeys(want) {
		rt := kmsg.NewOffsetDeleteRequestTopic()
		rt.Topic = t
		for _, p := range sortedKeys(want[t]) {
			rt.Partitions = append(rt.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: p})
		}
		req.Topics = append(req.Topics, rt)
	}
	d.send(req, "admin", func(r kmsg.Response) {
		resp := r.(*kmsg.OffsetDeleteResponse)
		d.printf("delete-offsets: %s\n", errName(resp.ErrorCode))
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				d.printf("  %s-%d: %s\n", t.Topic, p.Partition, errName(p.ErrorCode))
			}
		}
	})
}

func (d *driver) deleteGroup(td *datadriven.TestData) {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version = 3
	req.Groups = names(td)
	d.send(req, "admin", func(r kmsg.Response) {
		for _, g := range r.(*kmsg.DeleteGroupsResponse).Groups {
			d.printf("%s: %s", g.Group, errName(g.ErrorCode))
			if g.ErrorMessage != nil {
				d.printf(" (%s)", *g.ErrorMessage)
			}
			d.printf("\n")
		}
	})
}

func (d *driver) list(td *datadriven.TestData) {
	req := kmsg.NewPtrListGroupsRequest()
	req.Version = 5
	req.StatesFilter, req.TypesFilter = list(arg(td, "states", "")), list(arg(td, "types", ""))
	d.send(req, "admin", func(r kmsg.Response) {
		for _, g := range r.(*kmsg.ListGroupsResponse).Groups {
			d.printf("%s %q %s %s\n", g.Group, g.ProtocolType, g.GroupState, g.GroupType)
		}
	})
}

func (d *driver) describe(td *datadriven.TestData) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version = int16(argInt(td, "v", 6))
	req.Groups = names(td)
	d.send(req, "admin", func(r kmsg.Response) {
		for _, g := range r.(*kmsg.DescribeGroupsResponse).Groups {
			d.printf("%s: %s %s", g.Group, errName(g.ErrorCode), g.State)
			if g.ErrorMessage != nil {
				d.printf(" (%s)", *g.ErrorMessage)
			}
			d.printf(" type=%q protocol=%q\n", g.ProtocolType, g.Protocol)
			for _, m := range g.Members {
				d.printf("  %s client=%s host=%s", m.MemberID, m.ClientID, m.ClientHost)
				if m.InstanceID != nil {
					d.printf(" instance=%s", *m.InstanceID)
				}
				if g.State == "Stable" {
					d.printf(" owns %s", cmpOr(assignmentText(m.MemberAssignment), "nothing (IDLE)"))
				}
				d.printf("\n")
			}
		}
	})
}

func (d *driver) history(td *datadriven.TestData) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups = 6, []string{arg(td, "group", "g")}
	d.send(req, "admin", func(r kmsg.Response) {
		// By way of bytes, as the command line sees it.
		resp := kmsg.NewPtrDescribeGroupsResponse()
		resp.Version = 6
		if err := resp.ReadFrom(r.AppendTo(nil)); err != nil {
			d.t.Fatal(err)
		}
		resp.Groups[0].UnknownTags.Each(func(tag uint32, b []byte) {
			if tag != TagRebalances {
				d.t.Fatalf("unknown tag %d", tag)
			}
			rs, err := DecodeRebalances(b)
			if err != nil {
				d.t.Fatal(err)
			}
			for _, r := range rs {
				d.printf("%s", time.UnixMilli(r.StartedMs).UTC().Format("15:04:05"))
				if r.EndedMs == 0 {
					d.printf(" goes on")
				} else {
					d.printf("-%s generation=%d members=%d", time.UnixMilli(r.EndedMs).UTC().Format("15:04:05"), r.Generation, r.Members)
				}
				d.printf(": %s", strings.Join(r.Reasons, "; "))
				if r.More > 0 {
					d.printf("; and %d more", r.More)
				}
				d.printf("\n")
			}
		})
	})
}
