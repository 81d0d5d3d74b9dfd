package group

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// driver runs scripts against one Shard. Time moves only by "advance". Every client is
// known by a name; the driver remembers its member id, generation and parked request, as
// a client would.
type driver struct {
	t      *testing.T
	opts   Options
	shard  *Shard
	now    coordinator.Now
	log    []record.Record
	topics map[string]int32
	// topicIDs are the last bytes of the topics' ids.
	topicIDs  map[string]byte
	lastTopic byte
	ids       int
	clients   map[string]*client
	out       strings.Builder
}

// client is what a script's client knows.
type client struct {
	name, group, id string
	instance        *string
	generation      int32
	protocol        string
	join            *kmsg.JoinGroupRequest
	leads           []kmsg.JoinGroupResponseMember
	owned           string
}

func newDriver(t *testing.T) *driver {
	d := &driver{
		t: t, clients: map[string]*client{}, topics: map[string]int32{}, topicIDs: map[string]byte{},
		now: coordinator.Now{Wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
	d.opts.NewID = func() string { d.ids++; return strconv.Itoa(d.ids) }
	d.opts.TopicPartitions = func(t string) int32 { return d.topics[t] }
	d.shard = NewShard(d.opts)
	return d
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		d := newDriver(t)
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			d.t = t
			d.out.Reset()
			d.run(td)
			checkInvariants(t, d.shard)
			if d.out.Len() == 0 {
				return "ok\n"
			}
			return d.out.String()
		})
	})
}

func (d *driver) printf(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

// effects records what was appended and prints the replies.
func (d *driver) effects(out *coordinator.Effects[*Call]) {
	d.log = append(d.log, out.Records...)
	for _, c := range out.Replies {
		c.Release()
	}
}

func (d *driver) step(c *Call) {
	var out coordinator.Effects[*Call]
	d.shard.Step(d.now, c, &out)
	d.effects(&out)
}

// advance moves time forward, waking the shard whenever it asked for it.
func (d *driver) advance(by time.Duration) {
	end := d.now.Boot + by
	for {
		at, ok := d.shard.Deadline()
		if !ok || at > end {
			break
		}
		d.sleep(max(at-d.now.Boot, 0))
		var out coordinator.Effects[*Call]
		d.shard.Wake(d.now, &out)
		d.effects(&out)
	}
	d.sleep(end - d.now.Boot)
}

func (d *driver) sleep(by time.Duration) {
	d.now.Boot += by
	d.now.Wall = d.now.Wall.Add(by)
}

// send builds a call for a client; show prints its answer, prefixed with the time when
// it comes later than the command.
func (d *driver) send(req kmsg.Request, who string, show func(kmsg.Response)) {
	asked := d.now.Boot
	c := NewCall(req, Client{ID: who, Host: "/127.0.0.1", Kalda: true}, func(c *Call) {
		if d.now.Boot != asked {
			d.printf("after %s ", d.now.Boot-asked)
		}
		show(c.Resp)
	})
	d.step(c)
}

func errName(code int16) string {
	if code == 0 {
		return "ok"
	}
	e, _ := kerr.ForCode(code)
	return e.Name
}

func (d *driver) client(name string) *client {
	c := d.clients[name]
	if c == nil {
		d.t.Fatalf("no client %q yet", name)
	}
	return c
}

// arg returns the value of key=value, or def.
func arg(td *datadriven.TestData, key, def string) string {
	for _, a := range td.CmdArgs {
		if a.Key == key {
			if len(a.Vals) == 0 {
				return ""
			}
			return strings.Join(a.Vals, ",")
		}
	}
	return def
}

func argInt(td *datadriven.TestData, key string, def int) int {
	v := arg(td, key, "")
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		td.Fatalf(nil, "%s: %v", key, err)
	}
	return n
}

func argDuration(td *datadriven.TestData, key string, def time.Duration) time.Duration {
	v := arg(td, key, "")
	if v == "" {
		return def
	}
	dur, err := time.ParseDuration(v)
	if err != nil {
		panic(err)
	}
	return dur
}

// names are the arguments without a value.
func names(td *datadriven.TestData) []string {
	var ns []string
	for _, a := range td.CmdArgs {
		if len(a.Vals) == 0 {
			ns = append(ns, a.Key)
		}
	}
	return ns
}

func (d *driver) run(td *datadriven.TestData) {
	switch td.Cmd {
	case "options":
		d.options(td)
	case "topic":
		for _, a := range td.CmdArgs {
			n, _ := strconv.Atoi(a.Vals[0])
			d.topics[a.Key] = int32(n)
			if d.topicIDs[a.Key] = 0; n > 0 { // created, perhaps anew
				d.lastTopic++
				d.topicIDs[a.Key] = d.lastTopic
			}
		}
	case "join":
		for _, n := range names(td) {
			d.join(td, n)
		}
	case "sync":
		for _, n := range names(td) {
			d.sync(td, n)
		}
	case "heartbeat":
		for _, n := range names(td) {
			d.heartbeat(td, n)
		}
	case "leave":
		d.leave(td)
	case "commit":
		d.commit(td)
	case "fetch":
		d.fetch(td)
	case "delete-offsets":
		d.deleteOffsets(td)
	case "delete-group":
		d.deleteGroup(td)
	case "delete-topic":
		d.step(&Call{event: topicsDeleted{names(td)}})
	case "list":
		d.list(td)
	case "describe":
		d.describe(td)
	case "history":
		d.history(td)
	case "advance":
		dur, err := time.ParseDuration(td.CmdArgs[0].Key)
		if err != nil {
			d.t.Fatal(err)
		}
		d.advance(dur)
	case "keep-alive":
		d.keepAlive(td)
	case "failover":
		d.failover()
	case "records":
		d.records()
	default:
		d.t.Fatalf("unknown command %q", td.Cmd)
	}
}

func (d *driver) options(td *datadriven.TestData) {
	d.opts.InitialRebalanceDelay = argDuration(td, "initial-delay", d.opts.InitialRebalanceDelay)
	d.opts.MaxSize = argInt(td, "max-size", d.opts.MaxSize)
	d.opts.MaxMetadataBytes = argInt(td, "max-metadata", d.opts.MaxMetadataBytes)
	d.opts.MaxMemberBytes = argInt(td, "max-member-bytes", d.opts.MaxMemberBytes)
	d.opts.MaxGroupBytes = argInt(td, "max-group-bytes", d.opts.MaxGroupBytes)
	d.opts.OffsetsRetention = argDuration(td, "retention", d.opts.OffsetsRetention)
	d.opts.RetentionCheckInterval = argDuration(td, "check", d.opts.RetentionCheckInterval)
	d.opts.MaxTotalBytes = int64(argInt(td, "max-total-bytes", int(d.opts.MaxTotalBytes)))
	if arg(td, "topic-ids", "") == "yes" {
		d.opts.TopicID = func(t string) model.TopicID { return model.TopicID{15: d.topicIDs[t]} }
	}
	b := d.shard.opts.budget
	d.shard.opts = d.opts.withDefaults()
	if b.max = d.opts.MaxTotalBytes; b.max == 0 {
		b.max = d.shard.opts.MaxTotalBytes
	}
	d.shard.opts.budget = b
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// join sends JoinGroup for a client, as often as MEMBER_ID_REQUIRED makes it.
func (d *driver) join(td *datadriven.TestData, name string) {
	c := d.clients[name]
	if c == nil {
		c = &client{name: name, generation: -1}
		d.clients[name] = c
	}
	c.group = arg(td, "group", cmpOr(c.group, "g")) // "group=" is the empty id
	c.id = arg(td, "id", c.id)
	if i := arg(td, "instance", ""); i != "" {
		c.instance = &i
	}
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = int16(argInt(td, "v", 9))
	req.Group, req.MemberID, req.InstanceID = c.group, c.id, c.instance
	req.SessionTimeoutMillis = int32(argDuration(td, "session", 10*time.Second).Milliseconds())
	req.RebalanceTimeoutMillis = int32(argDuration(td, "rebalance", 60*time.Second).Milliseconds())
	req.ProtocolType = arg(td, "type", "consumer")
	if r := arg(td, "reason", ""); r != "" {
		req.Reason = &r
	}
	topics := list(arg(td, "topics", "t"))
	if c.join != nil && arg(td, "topics", "") == "" && arg(td, "protocols", "") == "" {
		req.Protocols = c.join.Protocols
	} else {
		for _, p := range list(arg(td, "protocols", "range")) {
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: subscribe(topics, arg(td, "owned", ""))})
		}
	}
	if pad := argInt(td, "pad", 0); pad > 0 {
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, pad)}}
	}
	c.join = req
	d.sendJoin(c, req, arg(td, "once", "") != "")
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (d *driver) sendJoin(c *client, req *kmsg.JoinGroupRequest, once bool) {
	answered := false
	d.send(req, c.name, func(r kmsg.Response) {
		answered = true
		resp := r.(*kmsg.JoinGroupResponse)
		if resp.MemberID != "" {
			c.id = resp.MemberID
		}
		d.printf("%s: %s", c.name, errName(resp.ErrorCode))
		switch resp.ErrorCode {
		case 0:
			c.generation, c.protocol = resp.Generation, *resp.Protocol
			c.leads = nil
			d.printf(" id=%s generation=%d protocol=%s leader=%s", c.id, resp.Generation, c.protocol, resp.LeaderID)
			if len(resp.Members) > 0 {
				var ms []string
				for _, m := range resp.Members {
					ms = append(ms, m.MemberID)
				}
				d.printf(" members=%s", strings.Join(ms, ","))
				if !resp.SkipAssignment {
					c.leads = resp.Members
				}
			}
			if resp.SkipAssignment {
				d.printf(" skip-assignment")
			}
			d.printf("\n")
		case kerr.MemberIDRequired.Code:
			d.printf(" id=%s\n", c.id)
			if !once {
				again := *req
				again.MemberID = c.id
				d.sendJoin(c, &again, false)
			}
		case kerr.UnknownMemberID.Code:
			c.id = ""
			d.printf("\n")
		default:
			d.printf("\n")
		}
	})
	if !answered {
		d.printf("%s: waits\n", c.name)
	}
}

// sync sends SyncGroup; a leader assigns partitions by range.
func (d *driver) sync(td *datadriven.TestData, name string) {
	c := d.client(name)
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version = int16(argInt(td, "v", 5))
	req.Group, req.MemberID, req.InstanceID = c.group, arg(td, "id", c.id), c.instance
	req.Generation = int32(argInt(td, "generation", int(c.generation)))
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr(arg(td, "protocol", c.protocol))
	if len(c.leads) > 0 {
		assign := rangeAssign
		if c.protocol == "cooperative" {
			assign = cooperativeAssign
		}
		req.GroupAssignment = assign(c.leads, d.topics)
	}
	answered := false
	d.send(req, c.name, func(r kmsg.Response) {
		answered = true
		resp := r.(*kmsg.SyncGroupResponse)
		d.printf("%s: %s", c.name, errName(resp.ErrorCode))
		if resp.ErrorCode == 0 {
			c.owned = assignmentText(resp.MemberAssignment)
			d.printf(" owns %s", cmpOr(c.owned, "nothing"))
		}
		d.printf("\n")
	})
	if !answered {
		d.printf("%s: waits\n", c.name)
	}
}

func (d *driver) heartbeat(td *datadriven.TestData, name string) {
	c := d.client(name)
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version = 4
	req.Group, req.MemberID, req.InstanceID = c.group, arg(td, "id", c.id), c.instance
	req.Generation = int32(argInt(td, "generation", int(c.generation)))
	d.send(req, c.name, func(r kmsg.Response) {
		d.printf("%s: %s\n", c.name, errName(r.(*kmsg.HeartbeatResponse).ErrorCode))
	})
}

// keepAlive lets time pass while some clients send heartbeats every three seconds, until
// one of them is refused; with through=yes a rebalance does not count.
func (d *driver) keepAlive(td *datadriven.TestData) {
	end := d.now.Boot + argDuration(td, "for", 0)
	for d.now.Boot < end {
		d.advance(min(3*time.Second, end-d.now.Boot))
		for _, n := range names(td) {
			c := d.client(n)
			req := kmsg.NewPtrHeartbeatRequest()
			req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, c.group, c.id, c.instance, c.generation
			d.send(req, c.name, func(r kmsg.Response) {
				code := r.(*kmsg.HeartbeatResponse).ErrorCode
				if code == kerr.RebalanceInProgress.Code && arg(td, "through", "") != "" {
					return
				}
				if code != 0 {
					d.printf("%s at %s: %s\n", c.name, d.now.Boot, errName(code))
					end = d.now.Boot
				}
			})
		}
	}
}

func (d *driver) leave(td *datadriven.TestData) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version = int16(argInt(td, "v", 5))
	req.Group = arg(td, "group", "g")
	for _, n := range names(td) {
		m := kmsg.NewLeaveGroupRequestMember()
		if c := d.clients[n]; c != nil {
			req.Group, m.MemberID, m.InstanceID = arg(td, "group", c.group), c.id, c.instance
		} else {
			m.InstanceID = kmsg.StringPtr(n) // an administrator removes a static member
		}
		req.MemberID = m.MemberID
		if r := arg(td, "reason", ""); r != "" {
			m.Reason = &r
		}
		req.Members = append(req.Members, m)
	}
	d.send(req, "admin", func(r kmsg.Response) {
		resp := r.(*kmsg.LeaveGroupResponse)
		d.printf("leave: %s\n", errName(resp.ErrorCode))
		for _, m := range resp.Members {
			if m.ErrorCode != 0 {
				d.printf("  %s: %s\n", m.MemberID, errName(m.ErrorCode))
			}
		}
	})
}

// parseOffsets reads t-0=5 pairs.
func parseOffsets(td *datadriven.TestData) map[string]map[int32]int64 {
	m := map[string]map[int32]int64{}
	for _, line := range strings.Fields(td.Input) {
		tp, off, _ := strings.Cut(line, "=")
		i := strings.LastIndexByte(tp, '-')
		p, _ := strconv.Atoi(tp[i+1:])
		o, _ := strconv.ParseInt(off, 10, 64)
		if m[tp[:i]] == nil {
			m[tp[:i]] = map[int32]int64{}
		}
		m[tp[:i]][int32(p)] = o
	}
	return m
}

func (d *driver) commit(td *datadriven.TestData) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version = int16(argInt(td, "v", 9))
	req.Group, req.Generation, req.RetentionTimeMillis = arg(td, "group", "g"), -1, -1
	who := "simple"
	if ns := names(td); len(ns) > 0 {
		c := d.client(ns[0])
		who, req.Group, req.MemberID, req.InstanceID, req.Generation = c.name, c.group, c.id, c.instance, c.generation
	}
	req.Generation = int32(argInt(td, "generation", int(req.Generation)))
	req.MemberID = arg(td, "id", req.MemberID)
	if r := arg(td, "retention", ""); r != "" {
		req.RetentionTimeMillis = argDuration(td, "retention", 0).Milliseconds()
	}
	offsets := parseOffsets(td)
	for _, topic := range sortedKeys(offsets) {
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = topic
		for _, p := range sortedKeys(offsets[topic]) {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = p, offsets[topic][p], int32(argInt(td, "epoch", -1))
			rp.Metadata = kmsg.StringPtr(arg(td, "metadata", ""))
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	d.send(req, who, func(r kmsg.Response) {
		codes := map[string]bool{}
		for _, t := range r.(*kmsg.OffsetCommitResponse).Topics {
			for _, p := range t.Partitions {
				codes[errName(p.ErrorCode)] = true
			}
		}
		d.printf("%s: %s\n", who, strings.Join(sortedKeys(codes), ", "))
	})
}

func (d *driver) fetch(td *datadriven.TestData) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = int16(argInt(td, "v", 9))
	group := arg(td, "group", "g")
	want := parseOffsets(td)
	if req.Version < 8 {
		req.Group = group
		for _, t := range sortedKeys(want) {
			rt := kmsg.NewOffsetFetchRequestTopic()
			rt.Topic, rt.Partitions = t, sortedKeys(want[t])
			req.Topics = append(req.Topics, rt)
		}
	} else {
		rg := kmsg.NewOffsetFetchRequestGroup()
		rg.Group = group
		for _, t := range sortedKeys(want) {
			rt := kmsg.NewOffsetFetchRequestGroupTopic()
			rt.Topic, rt.Partitions = t, sortedKeys(want[t])
			rg.Topics = append(rg.Topics, rt)
		}
		req.Groups = append(req.Groups, rg)
	}
	show := func(topic string, p int32, offset int64, epoch int32, md *string, code int16) {
		d.printf("%s-%d=%d", topic, p, offset)
		if epoch >= 0 {
			d.printf(" epoch=%d", epoch)
		}
		if md != nil && *md != "" {
			d.printf(" metadata=%s", *md)
		}
		if code != 0 {
			d.printf(" %s", errName(code))
		}
		d.printf("\n")
	}
	d.send(req, "fetcher", func(r kmsg.Response) {
		resp := r.(*kmsg.OffsetFetchResponse)
		n := 0
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				n++
				show(t.Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
		for _, g := range resp.Groups {
			if g.ErrorCode != 0 {
				d.printf("%s\n", errName(g.ErrorCode))
			}
			for _, t := range g.Topics {
				for _, p := range t.Partitions {
					n++
					show(t.Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
				}
			}
		}
		if n == 0 {
			d.printf("no offsets, %s\n", errName(resp.ErrorCode))
		}
	})
}

// failover throws the shard away, fails what it had parked, and replays the log into a
// new one, as another broker would.
func (d *driver) failover() {
	for _, c := range d.shard.Parked() {
		c.Fail(kerr.NotCoordinator)
	}
	d.shard = d.replayed()
	var out coordinator.Effects[*Call]
	d.shard.Loaded(d.now, &out)
	d.effects(&out)
}

func (d *driver) replayed() *Shard {
	s := NewShard(d.opts)
	for i := range d.log {
		if err := s.Replay(&d.log[i]); err != nil {
			d.t.Fatal(err)
		}
	}
	return s
}

// records prints what the log holds after compaction.
func (d *driver) records() {
	latest := map[string][]byte{}
	for _, r := range d.log {
		latest[string(r.Key)] = r.Value
	}
	for _, k := range slices.Sorted(maps.Keys(latest)) {
		switch v := latest[k]; {
		case k[0] == topicKey>>8:
			if d.printf("topic %s: ", k[4:]); v == nil {
				d.printf("deleted\n")
				continue
			}
			d.printf("id %d\n", v[len(v)-1])
		case k[1] == 1:
			var key kmsg.OffsetCommitKey
			must(d.t, key.ReadFrom([]byte(k)))
			d.printf("offset %s %s-%d: ", key.Group, key.Topic, key.Partition)
			if v == nil {
				d.printf("deleted\n")
				continue
			}
			var val kmsg.OffsetCommitValue
			must(d.t, val.ReadFrom(v))
			d.printf("v%d offset=%d\n", val.Version, val.Offset)
		case k[1] == 2:
			var key kmsg.GroupMetadataKey
			must(d.t, key.ReadFrom([]byte(k)))
			d.printf("group %s: ", key.Group)
			if v == nil {
				d.printf("deleted\n")
				continue
			}
			var val kmsg.GroupMetadataValue
			must(d.t, val.ReadFrom(v))
			d.printf("v%d generation=%d members=%d\n", val.Version, val.Generation, len(val.Members))
		}
	}
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}
