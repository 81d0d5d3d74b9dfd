package broker

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// api is one served API with its range of versions.
type api struct {
	min, max int16
	// serve handles a request decoded by kmsg.
	serve func(*Broker, *wire.Pending, kmsg.Request) wire.Outcome
	// hot, if set, handles the undecoded request (Produce and Fetch).
	hot func(*Broker, *wire.Pending) wire.Outcome
}

// apiTable holds the served APIs by key.
type apiTable []*api

func (t apiTable) find(key int16) *api {
	if key < 0 || int(key) >= len(t) {
		return nil
	}
	return t[key]
}

// answers adapts a function that answers at once.
func answers[R kmsg.Request](f func(*Broker, *wire.Pending, R) kmsg.Response) func(*Broker, *wire.Pending, kmsg.Request) wire.Outcome {
	return func(b *Broker, p *wire.Pending, req kmsg.Request) wire.Outcome {
		r, ok := req.(R)
		if !ok {
			panic(fmt.Sprintf("broker: api table has the wrong function for %T", req))
		}
		return respond(p, f(b, p, r))
	}
}

// parks adapts a function that decides itself when to answer.
func parks[R kmsg.Request](f func(*Broker, *wire.Pending, R) wire.Outcome) func(*Broker, *wire.Pending, kmsg.Request) wire.Outcome {
	return func(b *Broker, p *wire.Pending, req kmsg.Request) wire.Outcome {
		r, ok := req.(R)
		if !ok {
			panic(fmt.Sprintf("broker: api table has the wrong function for %T", req))
		}
		return f(b, p, r)
	}
}

// newAPITable lists what is served. Minimums reach below Kafka 4's where our codec
// reads the old form (old sarama, kafka-go and Python clients); maximums are Kafka 4.4's.
func newAPITable() apiTable {
	served := map[kmsg.Key]api{
		kmsg.Produce:                 {min: 0, max: 13, hot: (*Broker).produce},
		kmsg.Fetch:                   {min: 4, max: 18, hot: (*Broker).fetch},
		kmsg.ListOffsets:             {min: 1, max: 11, serve: answers((*Broker).listOffsets)},
		kmsg.Metadata:                {min: 0, max: 13, serve: parks((*Broker).metadata)},
		kmsg.OffsetCommit:            {min: 1, max: 10, serve: parks((*Broker).offsetCommit)},
		kmsg.OffsetFetch:             {min: 1, max: 10, serve: parks((*Broker).offsetFetch)},
		kmsg.FindCoordinator:         {min: 0, max: 6, serve: parks((*Broker).findCoordinator)},
		kmsg.JoinGroup:               {min: 0, max: 9, serve: parks((*Broker).joinGroup)},
		kmsg.Heartbeat:               {min: 0, max: 4, serve: parks((*Broker).heartbeat)},
		kmsg.LeaveGroup:              {min: 0, max: 5, serve: parks((*Broker).leaveGroup)},
		kmsg.SyncGroup:               {min: 0, max: 5, serve: parks((*Broker).syncGroup)},
		kmsg.DescribeGroups:          {min: 0, max: 6, serve: parks((*Broker).describeGroups)},
		kmsg.ListGroups:              {min: 0, max: 5, serve: parks((*Broker).listGroups)},
		kmsg.DeleteGroups:            {min: 0, max: 3, serve: parks((*Broker).deleteGroups)},
		kmsg.OffsetDelete:            {min: 0, max: 0, serve: parks((*Broker).offsetDelete)},
		kmsg.ApiVersions:             {min: 0, max: 5, serve: answers((*Broker).apiVersions)},
		kmsg.CreateTopics:            {min: 0, max: 7, serve: parks((*Broker).createTopics)},
		kmsg.DeleteTopics:            {min: 0, max: 6, serve: parks((*Broker).deleteTopics)},
		kmsg.DeleteRecords:           {min: 0, max: 2, serve: answers((*Broker).deleteRecords)},
		kmsg.InitProducerID:          {min: 0, max: 5, serve: parks((*Broker).initProducerID)},
		kmsg.OffsetForLeaderEpoch:    {min: 0, max: 4, serve: answers((*Broker).offsetForLeaderEpoch)},
		kmsg.DescribeConfigs:         {min: 0, max: 4, serve: answers((*Broker).describeConfigs)},
		kmsg.AlterConfigs:            {min: 0, max: 2, serve: parks((*Broker).alterConfigs)},
		kmsg.DescribeLogDirs:         {min: 0, max: 5, serve: answers((*Broker).describeLogDirs)},
		kmsg.CreatePartitions:        {min: 0, max: 3, serve: parks((*Broker).createPartitions)},
		kmsg.IncrementalAlterConfigs: {min: 0, max: 1, serve: parks((*Broker).incrementalAlterConfigs)},
		kmsg.UpdateFeatures:          {min: 0, max: 2, serve: parks((*Broker).updateFeatures)},
		kmsg.DescribeCluster:         {min: 0, max: 2, serve: answers((*Broker).describeCluster)},
		kmsg.ListConfigResources:     {min: 0, max: 1, serve: answers((*Broker).listConfigResources)},
		kmsg.DescribeTopicPartitions: {min: 0, max: 0, serve: answers((*Broker).describeTopicPartitions)},
	}
	t := make(apiTable, 0, 96)
	for key, a := range served {
		for int(key.Int16()) >= len(t) {
			t = append(t, nil)
		}
		t[key.Int16()] = &a
	}
	return t
}
