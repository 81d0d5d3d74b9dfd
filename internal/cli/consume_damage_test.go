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

// A broker that cannot read its disk is told of at once, where the client alone would ask
// again in silence for ever. An error that passes is not: the client asks again.
func TestConsumeTellsOfDamage(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var asked atomic.Int32
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, kerr.KafkaStorageError.Code
				if asked.Add(1) > 1 {
					sp.ErrorCode = kerr.CorruptMessage.Code
				}
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
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
