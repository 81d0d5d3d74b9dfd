package cli

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// answerFetches makes c answer every fetch of a partition with what code says.
func answerFetches(c *kfake.Cluster, code func() *kerr.Error) {
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, code().Code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
}

// A broker that cannot read its disk is told of at once, where the client alone would ask
// again in silence for ever. An error that passes is not: the client asks again.
func TestConsumeTellsOfDamage(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var asked atomic.Int32
	answerFetches(c, func() *kerr.Error {
		if asked.Add(1) > 1 {
			return kerr.CorruptMessage
		}
		return kerr.KafkaStorageError
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	code := Run(ctx, Env{
		Args: []string{"consume", "t", "-o", "start", "-n", "1", "-b", c.ListenAddrs()[0]}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
	})
	if code != ExitFailed || !strings.Contains(errs.String(), "read t-0: the records here are damaged on the broker's disk (CORRUPT_MESSAGE)") ||
		!strings.Contains(errs.String(), "kalda topic describe t") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if n := asked.Load(); n < 2 {
		t.Errorf("%d fetches: an error that passes ended it", n)
	}
}

// While an error passes, the broker is asked a few times a second and not thousands.
func TestConsumeAsksInPeace(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	var asked atomic.Int32
	began := time.Now()
	answerFetches(c, func() *kerr.Error {
		if asked.Add(1) == 6 {
			stop()
		}
		return kerr.NotLeaderOrFollower
	})
	var out, errs bytes.Buffer
	Run(ctx, Env{
		Args: []string{"consume", "t", "-b", c.ListenAddrs()[0]}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
	})
	// Between six requests lie five waits; one or two may be on their way before the first.
	if took := time.Since(began); asked.Load() < 6 || took < 3*pollWait {
		t.Errorf("%d requests in %v: %s", asked.Load(), took, errs.String())
	}
}
