package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// joinWith asks to join a group with a protocol of that metadata.
func joinWith(c *wireConn, version int16, group, member string, f func(*kmsg.JoinGroupRequest)) *kmsg.JoinGroupResponse {
	c.t.Helper()
	jp := kmsg.NewJoinGroupRequestProtocol()
	jp.Name, jp.Metadata = "range", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = version, group, member, 10_000, 10_000
	req.ProtocolType, req.Protocols = "consumer", append(req.Protocols, jp)
	if f != nil {
		f(req)
	}
	return ask[*kmsg.JoinGroupResponse](c, req)
}

// Members that are too large, too many or nonsense stay outside, and nothing of them is kept.
func TestBadMembers(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.member("").wireConn
		defer c.c.Close()
		long := strings.Repeat("x", 32_767)
		for name, row := range map[string]struct {
			f    func(*kmsg.JoinGroupRequest)
			want *kerr.Error
		}{
			"giant metadata":     {func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Metadata = make([]byte, 2<<20) }, kerr.InvalidRequest},
			"many protocols":     {func(r *kmsg.JoinGroupRequest) { r.Protocols = manyProtocols(200_000) }, kerr.InvalidRequest},
			"no group":           {func(r *kmsg.JoinGroupRequest) { r.Group = "" }, kerr.InvalidGroupID},
			"long group":         {func(r *kmsg.JoinGroupRequest) { r.Group = long }, kerr.InvalidGroupID},
			"long instance":      {func(r *kmsg.JoinGroupRequest) { r.InstanceID = &long }, kerr.InvalidRequest},
			"unknown member":     {func(r *kmsg.JoinGroupRequest) { r.MemberID = long }, kerr.UnknownMemberID},
			"no protocol":        {func(r *kmsg.JoinGroupRequest) { r.Protocols = nil }, kerr.InconsistentGroupProtocol},
			"no protocol's name": {func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "" }, kerr.InconsistentGroupProtocol},
			"no protocol type":   {func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "" }, kerr.InconsistentGroupProtocol},
			"session 0":          {func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 0 }, kerr.InvalidSessionTimeout},
			"session negative":   {func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = -1 << 31 }, kerr.InvalidSessionTimeout},
			"session 24 days":    {func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1<<31 - 1 }, kerr.InvalidSessionTimeout},
		} {
			for _, version := range []int16{5, 9} {
				if r := joinWith(c, version, "bad", "", row.f); r.ErrorCode != row.want.Code {
					t.Errorf("%s, version %d: code %d, want %v", name, version, r.ErrorCode, row.want)
				}
			}
		}
		// Any group that is not there, for every other request.
		for _, group := range []string{"", "nosuch", long} {
			hb := kmsg.NewPtrHeartbeatRequest()
			hb.Version, hb.Group, hb.MemberID = 4, group, "x"
			sync := kmsg.NewPtrSyncGroupRequest()
			sync.Version, sync.Group, sync.MemberID = 5, group, "x"
			leave := kmsg.NewPtrLeaveGroupRequest()
			leave.Version, leave.Group, leave.MemberID = 2, group, "x"
			want := kerr.UnknownMemberID.Code
			if group == "" {
				want = kerr.InvalidGroupID.Code
			}
			for _, got := range []int16{
				ask[*kmsg.HeartbeatResponse](c, hb).ErrorCode, ask[*kmsg.SyncGroupResponse](c, sync).ErrorCode, ask[*kmsg.LeaveGroupResponse](c, leave).ErrorCode,
			} {
				if got != want {
					t.Errorf("group %.10q: code %d", group, got)
				}
			}
		}
		if gs := listGroups(c); len(gs) != 0 {
			t.Errorf("groups: %v", gs)
		}
	})
}

func manyProtocols(n int) []kmsg.JoinGroupRequestProtocol {
	out := make([]kmsg.JoinGroupRequestProtocol, n)
	for i := range out {
		out[i].Name = fmt.Sprint("p", i)
	}
	return out
}

func listGroups(c *wireConn) []string {
	c.t.Helper()
	req := kmsg.NewPtrListGroupsRequest()
	req.Version = 4
	var out []string
	for _, g := range ask[*kmsg.ListGroupsResponse](c, req).Groups {
		out = append(out, g.Group)
	}
	return out
}

// A client whose id is as long as a string can be gets a member id that fits a string; the
// group's record is read again.
func TestLongClientID(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		b.create("t", 1, nil)
		m := w.member("")
		long := strings.Repeat("\u00e9", 32_766/2)
		join := func(id string) *kmsg.JoinGroupResponse {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version, req.Group, req.MemberID, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 5, theGroup, id, 10_000, 10_000, "consumer"
			jp := kmsg.NewJoinGroupRequestProtocol()
			jp.Name = "range"
			req.Protocols = append(req.Protocols, jp)
			f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(long))
			if _, err := m.c.Write(f.AppendRequest(nil, req, m.corr.Add(1))); err != nil {
				t.Fatal(err)
			}
			resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
			m.receive(resp)
			return resp
		}
		r := join("")
		if r.ErrorCode != kerr.MemberIDRequired.Code || len(r.MemberID) > 300 {
			t.Fatalf("code %d, a member id of %d bytes", r.ErrorCode, len(r.MemberID))
		}
		m.id = r.MemberID
		if r = join(m.id); r.ErrorCode != 0 {
			t.Fatalf("code %d", r.ErrorCode)
		}
		m.generation = r.Generation
		m.sync(map[string]string{m.id: "all"})
		b.stop()
		b = w.start()
		defer b.stop()
		m.wireConn = w.dial()
		m.findCoordinator()
		if code := m.heartbeat(); code != 0 {
			t.Errorf("after a restart the member is unknown: code %d", code)
		}
	})
}

// A hundred thousand members do not come in, each by itself or as ids that are asked for and
// never used; the group goes on with those it has.
func TestManyMembers(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.member("").wireConn
		defer c.c.Close()
		before := heap()
		codes := map[int16]int{}
		for range 3_000 {
			codes[joinWith(c, 9, "crowd", "", nil).ErrorCode]++
		}
		if codes[kerr.MemberIDRequired.Code] == 0 || codes[kerr.GroupMaxSizeReached.Code] == 0 || len(codes) != 2 {
			t.Errorf("codes %v", codes)
		}
		if grown := heap() - before; grown > 8<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		// Many groups of one: their sum is bounded as well.
		codes = map[int16]int{}
		for i := range 3_000 {
			codes[joinWith(c, 9, fmt.Sprint("single", i), "", nil).ErrorCode]++
		}
		if codes[kerr.GroupMaxSizeReached.Code] < 2_000 || len(codes) != 2 {
			t.Errorf("codes %v", codes)
		}
		if grown := heap() - before; grown > 16<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
	}, "kalda.group.max.bytes=64KiB", "kalda.groups.max.bytes=1MiB")
	suffers(t, func(d *ward) {
		a := d.w.member("")
		defer a.c.Close()
		a.sendJoin()
		a.joined()
		a.sync(map[string]string{a.id: "all"})
		for range 10 {
			b := d.w.dial()
			if r := joinWith(b, 3, theGroup, "", nil); r.ErrorCode != kerr.GroupMaxSizeReached.Code {
				t.Errorf("code %d", r.ErrorCode)
			}
			_ = b.c.Close()
		}
		if code := a.heartbeat(); code != 0 {
			t.Errorf("heartbeat: code %d", code)
		}
	}, "group.max.size=1")
}

// An assignment of ten MiB is refused, and what the members own stays.
func TestGiantAssignment(t *testing.T) {
	suffers(t, func(d *ward) {
		a := d.w.member("")
		defer a.c.Close()
		a.sendJoin()
		a.joined()
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.Generation = 5, theGroup, a.id, a.generation
		ga := kmsg.NewSyncGroupRequestGroupAssignment()
		ga.MemberID, ga.MemberAssignment = a.id, make([]byte, 10<<20)
		req.GroupAssignment = append(req.GroupAssignment, ga)
		if r := ask[*kmsg.SyncGroupResponse](a.wireConn, req); r.ErrorCode != kerr.InvalidRequest.Code {
			t.Fatalf("code %d", r.ErrorCode)
		}
		if got := a.sync(map[string]string{a.id: "small"}); got != "small" {
			t.Errorf("owns %q", got)
		}
	})
}

// A commit with too much of anything, or of nothing that exists, stores nothing.
func TestBadCommits(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.member("").wireConn
		defer c.c.Close()
		commit := func(version int16, f func(*kmsg.OffsetCommitRequest)) []int16 {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Offset = 5
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic, rt.TopicID, rt.Partitions = "t", d.id, append(rt.Partitions, rp)
			req := kmsg.NewPtrOffsetCommitRequest()
			req.Version, req.Group, req.Generation, req.Topics = version, "h", -1, append(req.Topics, rt)
			f(req)
			var codes []int16
			for {
				for _, t := range ask[*kmsg.OffsetCommitResponse](c, req).Topics {
					for _, p := range t.Partitions {
						codes = append(codes, p.ErrorCode)
					}
				}
				// The shard of "h" is not that of the member's group, and may still be loading.
				if !slices.Contains(codes, kerr.CoordinatorLoadInProgress.Code) {
					return codes
				}
				codes = nil
				<-time.After(time.Millisecond)
			}
		}
		part := func(r *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitRequestTopicPartition {
			return &r.Topics[0].Partitions[0]
		}
		long, note := strings.Repeat("g", 32_767), strings.Repeat("n", 4_097)
		for name, row := range map[string]struct {
			f    func(*kmsg.OffsetCommitRequest)
			want *kerr.Error
		}{
			"long note":        {func(r *kmsg.OffsetCommitRequest) { part(r).Metadata = &note }, kerr.OffsetMetadataTooLarge},
			"longest note":     {func(r *kmsg.OffsetCommitRequest) { part(r).Metadata = &long }, kerr.OffsetMetadataTooLarge},
			"long group":       {func(r *kmsg.OffsetCommitRequest) { r.Group = long }, kerr.InvalidGroupID},
			"partition -1":     {func(r *kmsg.OffsetCommitRequest) { part(r).Partition = -1 }, kerr.UnknownTopicOrPartition},
			"partition 2^31-1": {func(r *kmsg.OffsetCommitRequest) { part(r).Partition = 1<<31 - 1 }, kerr.UnknownTopicOrPartition},
			"a partition twice": {func(r *kmsg.OffsetCommitRequest) {
				r.Topics[0].Partitions = append(r.Topics[0].Partitions, r.Topics[0].Partitions[0])
			}, kerr.InvalidRequest},
		} {
			for _, version := range []int16{2, 9, 10} {
				for _, got := range commit(version, row.f) {
					if got != row.want.Code {
						t.Errorf("%s, version %d: code %d, want %v", name, version, got, row.want)
					}
				}
			}
		}
		for _, got := range commit(9, func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Topic = "nosuch" }) {
			if got != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("an unknown topic: code %d", got)
			}
		}
		for _, got := range commit(10, func(r *kmsg.OffsetCommitRequest) { r.Topics[0].TopicID = [16]byte{7} }) {
			if got != kerr.UnknownTopicID.Code {
				t.Errorf("an unknown topic id: code %d", got)
			}
		}
		// As a member of a group that is not there, in each version's words.
		for version, want := range map[int16]*kerr.Error{2: kerr.IllegalGeneration, 9: kerr.GroupIDNotFound} {
			for _, got := range commit(version, func(r *kmsg.OffsetCommitRequest) { r.Generation, r.MemberID = 3, "x" }) {
				if got != want.Code {
					t.Errorf("a foreign group, version %d: code %d", version, got)
				}
			}
		}
		if gs := listGroups(c); len(gs) != 0 {
			t.Errorf("groups: %v", gs)
		}
		// And of a group that has members, by somebody else.
		a := d.w.member("")
		defer a.c.Close()
		a.sendJoin()
		a.joined()
		a.sync(map[string]string{a.id: "all"})
		for _, f := range []func(*kmsg.OffsetCommitRequest){
			func(*kmsg.OffsetCommitRequest) {},
			func(r *kmsg.OffsetCommitRequest) { r.MemberID, r.Generation = "x", a.generation },
		} {
			for _, got := range commit(9, func(r *kmsg.OffsetCommitRequest) { r.Group = theGroup; f(r) }) {
				if got != kerr.UnknownMemberID.Code {
					t.Errorf("a stranger's commit: code %d", got)
				}
			}
		}
		for _, got := range commit(9, func(r *kmsg.OffsetCommitRequest) { r.Group, r.MemberID, r.Generation = theGroup, a.id, a.generation+1 }) {
			if got != kerr.IllegalGeneration.Code {
				t.Errorf("a generation to come: code %d", got)
			}
		}
		if got := a.committedTo("t", 0); got != -1 {
			t.Errorf("offset %d was stored", got)
		}
		synctest.Wait()
	})
}

// The offsets that all groups may keep are bounded: more groups are refused, what is there
// can still be moved.
func TestManyCommits(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.member("").wireConn
		defer c.c.Close()
		before := heap()
		commit := func(group string, offset int64) int16 {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Offset, rp.Metadata = offset, kmsg.StringPtr(strings.Repeat("n", 4_000))
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp)
			req := kmsg.NewPtrOffsetCommitRequest()
			req.Version, req.Group, req.Generation, req.Topics = 8, group, -1, append(req.Topics, rt)
			return ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode
		}
		codes := map[int16]int{}
		for i := range 2_000 {
			codes[commit(fmt.Sprint("g", i), 1)]++
		}
		if codes[0] < 100 || codes[0] > 300 || codes[0]+codes[kerr.InvalidCommitOffsetSize.Code] != 2_000 {
			t.Errorf("codes %v", codes)
		}
		if grown := heap() - before; grown > 16<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		if got := commit("g0", 2); got != 0 {
			t.Errorf("moving an offset: code %d", got)
		}
		// The answer about one partition is given once, however often it is asked for.
		rt := kmsg.NewOffsetFetchRequestGroupTopic()
		rt.Topic, rt.Partitions = "t", make([]int32, 100_000)
		rg := kmsg.NewOffsetFetchRequestGroup()
		rg.Group, rg.Topics = "g0", append(rg.Topics, rt)
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version, req.Groups = 9, append(req.Groups, rg)
		if g := ask[*kmsg.OffsetFetchResponse](c, req).Groups[0]; len(g.Topics[0].Partitions) != 1 || g.Topics[0].Partitions[0].Offset != 2 {
			t.Errorf("%d answers", len(g.Topics[0].Partitions))
		}
		// So it is with groups.
		desc := kmsg.NewPtrDescribeGroupsRequest()
		desc.Version = 5
		for range 10_000 {
			desc.Groups = append(desc.Groups, "g0")
		}
		good := 0
		for _, g := range ask[*kmsg.DescribeGroupsResponse](c, desc).Groups {
			if g.ErrorCode == 0 {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%d descriptions of one group", good)
		}
	}, "kalda.groups.max.bytes=1MiB")
}
