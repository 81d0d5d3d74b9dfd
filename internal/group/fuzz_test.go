package group

import (
	"encoding/binary"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/record"
)

// pack writes records for FuzzReplay: each as two lengths and the bytes; length 0xffff
// is null.
func pack(records ...record.Record) []byte {
	var b []byte
	for _, r := range records {
		for _, p := range [][]byte{r.Key, r.Value} {
			if p == nil {
				b = binary.BigEndian.AppendUint16(b, 0xffff)
				continue
			}
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
		}
	}
	return b
}

func unpack(b []byte) []record.Record {
	var rs []record.Record
	next := func() []byte {
		if len(b) < 2 {
			b = nil
			return nil
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n == 0xffff {
			return nil
		}
		n = min(n, len(b))
		p := b[:n:n]
		b = b[n:]
		return p
	}
	for len(b) > 0 {
		rs = append(rs, record.Record{Key: next(), Value: next()})
	}
	return rs
}

// FuzzReplay loads whatever bytes and then uses the groups that came of it: nothing may
// panic, the invariants hold, and what it writes can be loaded again.
func FuzzReplay(f *testing.F) {
	one := "one"
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Protocol, v.Leader, v.Generation = 3, "consumer", kmsg.StringPtr("range"), kmsg.StringPtr("m"), 7
	for _, id := range []string{"m", "m", "n"} { // one of them twice
		m := kmsg.NewGroupMetadataValueMember()
		m.MemberID, m.InstanceID, m.Subscription = id, &one, subscribe([]string{"t"}, "t-0")
		m.SessionTimeoutMillis = -5
		v.Members = append(v.Members, m)
	}
	k := kmsg.GroupMetadataKey{Version: groupKey, Group: "g"}
	o := kmsg.NewOffsetCommitValue()
	o.Version, o.Offset, o.Metadata = 1, 5, "x"
	group := record.Record{Key: k.AppendTo(nil), Value: v.AppendTo(nil)}
	offset := record.Record{Key: offsetKey("g", "t", 0), Value: o.AppendTo(nil)}
	f.Add(pack(group, offset))
	f.Add(pack(offset, group, record.Record{Key: k.AppendTo(nil)}, offset, record.Record{Key: offset.Key}))
	f.Add(pack(record.Record{Key: []byte{0, 9, 1}}, record.Record{}, record.Record{Key: group.Key, Value: []byte{0, 3, 0}}))
	for version := int16(0); version <= 4; version++ {
		v.Version, o.Version = version, version
		f.Add(pack(record.Record{Key: group.Key, Value: v.AppendTo(nil)}, record.Record{Key: offset.Key, Value: o.AppendTo(nil)}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		log := unpack(b)
		opts := Options{NewID: func() string { return "new" }, MaxSize: 2}
		load := func() *Shard {
			s := NewShard(opts)
			for i := range log {
				_ = s.Replay(&log[i])
			}
			return s
		}
		s := load()
		first := s.persistent()
		if again := load().persistent(); again != first {
			t.Fatalf("two loads differ:\n%s\n%s", first, again)
		}
		var out coordinator.Effects[*Call]
		now := coordinator.Now{}
		s.Loaded(now, &out)
		checkInvariants(t, s)
		for _, id := range sortedKeys(s.groups) {
			d := kmsg.NewPtrDescribeGroupsRequest()
			d.Version, d.Groups = 6, []string{id}
			j := kmsg.NewPtrJoinGroupRequest()
			j.Version, j.Group, j.ProtocolType, j.SessionTimeoutMillis = 0, id, "consumer", 10_000
			j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscribe([]string{"t"}, "")}}
			for _, req := range []kmsg.Request{d, j} {
				s.Step(now, NewCall(req, Client{Kalda: true}, func(*Call) {}), &out)
				checkInvariants(t, s)
			}
		}
		for range 1000 {
			at, ok := s.Deadline()
			if !ok {
				break
			}
			now.Boot = max(now.Boot, at)
			s.Wake(now, &out)
			checkInvariants(t, s)
			if now.Boot > s.opts.MaxSessionTimeout {
				break
			}
		}
		log = append(log, out.Records...)
		load()
	})
}
