package node

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every version of every API that is advertised answers something that parses, with the
// correlation id that was sent: on an empty request, and on one about a topic that exists.
func TestEveryAdvertisedVersionAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 1, nil)
		c := w.dial()
		defer func() { _ = c.c.Close() }()
		vreq := kmsg.NewPtrApiVersionsRequest()
		vreq.Version, vreq.ClientSoftwareName, vreq.ClientSoftwareVersion = 4, "by-hand", "1"
		versions := ask[*kmsg.ApiVersionsResponse](c, vreq)
		if len(versions.ApiKeys) < 30 {
			t.Fatalf("%d APIs are advertised", len(versions.ApiKeys))
		}
		asked := 0
		for _, k := range versions.ApiKeys {
			for v := k.MinVersion; v <= k.MaxVersion; v++ {
				for _, fill := range []bool{false, true} {
					req := kmsg.RequestForKey(k.ApiKey)
					req.SetVersion(v)
					if !fillRequest(req, fill, id) {
						continue
					}
					corr := c.send(req)
					resp := req.ResponseKind()
					resp.SetVersion(v)
					frame, err := readFrame(c.c)
					if err != nil {
						t.Fatalf("%s version %d: %v", kmsg.NameForKey(k.ApiKey), v, err)
					}
					got, body := cutHeader(frame, resp)
					if err := resp.ReadFrom(body); err != nil || got != corr {
						t.Fatalf("%s version %d (filled %v): %v; correlation %d, want %d", kmsg.NameForKey(k.ApiKey), v, fill, err, got, corr)
					}
					// What was read, written again, must be all that was sent.
					if again := resp.AppendTo(nil); len(again) != len(body) {
						t.Errorf("%s version %d (filled %v): %d bytes, of which the client understands %d", kmsg.NameForKey(k.ApiKey), v, fill, len(body), len(again))
					}
					asked++
				}
			}
		}
		if asked < 200 {
			t.Errorf("only %d requests were asked", asked)
		}
	})
}

// fillRequest makes req valid, and with fill about topic t. It says whether there is
// such a request: some APIs have nothing to fill in.
func fillRequest(req kmsg.Request, fill bool, id [16]byte) bool {
	name := "t"
	switch r := req.(type) {
	case *kmsg.ApiVersionsRequest:
		r.ClientSoftwareName, r.ClientSoftwareVersion = "by-hand", "1"
		return !fill
	case *kmsg.ProduceRequest:
		r.Acks = 1 // 0 would have no answer
		if fill {
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.TopicID = name, id
			rt.Partitions = append(rt.Partitions, kmsg.NewProduceRequestTopicPartition())
			r.Topics = append(r.Topics, rt)
		}
	case *kmsg.FetchRequest:
		r.MaxWaitMillis, r.SessionEpoch = 0, -1
		if fill {
			rt := kmsg.NewFetchRequestTopic()
			rt.Topic, rt.TopicID = name, id
			rt.Partitions = append(rt.Partitions, kmsg.NewFetchRequestTopicPartition())
			r.Topics = append(r.Topics, rt)
		}
	case *kmsg.ListOffsetsRequest:
		if fill {
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = name
			for i, ts := range []int64{-1, -2, -3, -4, -5, -6, 0} {
				rp := kmsg.NewListOffsetsRequestTopicPartition()
				rp.Partition, rp.Timestamp = int32(i%2), ts
				rt.Partitions = append(rt.Partitions, rp)
			}
			r.Topics = append(r.Topics, rt)
		}
	case *kmsg.MetadataRequest:
		if fill {
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = &name
			r.Topics = append(r.Topics, rt)
		} else {
			r.Topics = nil
		}
	case *kmsg.CreateTopicsRequest:
		if fill {
			r.ValidateOnly = r.Version >= 1
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "another", 1, 1
			r.Topics = append(r.Topics, rt)
		}
	case *kmsg.DescribeConfigsRequest:
		if fill {
			r.IncludeSynonyms, r.IncludeDocumentation = true, true
			for kind, n := range map[kmsg.ConfigResourceType]string{kmsg.ConfigResourceTypeTopic: name, kmsg.ConfigResourceTypeBroker: "1", kmsg.ConfigResourceTypeGroupConfig: "g"} {
				rr := kmsg.NewDescribeConfigsRequestResource()
				rr.ResourceType, rr.ResourceName = kind, n
				r.Resources = append(r.Resources, rr)
			}
		}
	case *kmsg.DescribeTopicPartitionsRequest, *kmsg.DescribeClusterRequest, *kmsg.DescribeLogDirsRequest,
		*kmsg.ListGroupsRequest, *kmsg.ListConfigResourcesRequest, *kmsg.InitProducerIDRequest, *kmsg.FindCoordinatorRequest:
		return !fill
	case *kmsg.OffsetForLeaderEpochRequest:
		if fill {
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = name
			rt.Partitions = append(rt.Partitions, kmsg.NewOffsetForLeaderEpochRequestTopicPartition())
			r.Topics = append(r.Topics, rt)
		}
	default:
		return !fill
	}
	return true
}
