package group

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzSubscription: a consumer's metadata is read as kmsg reads it, whatever the bytes,
// and comparing never fails.
func FuzzSubscription(f *testing.F) {
	for version := range int16(4) {
		m := kmsg.NewConsumerMemberMetadata()
		m.Version, m.Topics, m.UserData, m.Generation = version, []string{"a", "b", "a"}, []byte("user"), 7
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = "a", []int32{3, 1}
		m.OwnedPartitions = append(m.OwnedPartitions, o)
		b := m.AppendTo(nil)
		f.Add(b, b)
		m.Topics, m.OwnedPartitions = []string{"b", "a"}, nil
		f.Add(b, m.AppendTo(nil))
	}
	f.Add([]byte{0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'a'}, []byte{0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, was, is []byte) {
		var got []string
		ok := subscribedTopics(was, func(topic string) bool { got = append(got, topic); return true })
		var want kmsg.ConsumerMemberMetadata
		if want.ReadFrom(was) == nil && want.Version >= 0 && (!ok || !slices.Equal(got, want.Topics)) {
			t.Fatalf("%v, %q, kmsg reads %q", ok, got, want.Topics)
		}
		if len(was) < 6 && ok {
			t.Fatal("read from nothing")
		}
		d := compareSubscriptions(was, is)
		if back := compareSubscriptions(is, was); d != back {
			t.Fatalf("%d one way and %d the other", d, back)
		}
		if d := compareSubscriptions(was, was); d != unknownDiffers {
			t.Fatalf("differs from itself: %d", d)
		}
	})
}
