package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// CreateTopics (19): 0 to 7. v4 allows defaults (-1), v5 answers with the topic's
// configuration, v7 with its id.
func (b *Broker) createTopics(p *wire.Pending, req *kmsg.CreateTopicsRequest) wire.Outcome {
	return b.later(p, req.TimeoutMillis, func(ctx context.Context) kmsg.Response {
		resp := kmsg.NewPtrCreateTopicsResponse()
		seen := map[string]int{}
		for _, t := range req.Topics {
			seen[t.Topic]++
		}
		var ask []meta.NewTopic
		var at []int
		for _, t := range req.Topics {
			r := kmsg.NewCreateTopicsResponseTopic()
			r.Topic = t.Topic
			var nt meta.NewTopic
			var err error
			if seen[t.Topic] > 1 {
				err = kerr.With(kerr.InvalidRequest, "topic %q is named %d times in one request", t.Topic, seen[t.Topic])
			} else {
				nt, err = newTopic(req.Version, &t)
			}
			if err != nil {
				r.ErrorCode, r.ErrorMessage = kerr.Code(err), kerr.Message(err)
			} else {
				ask, at = append(ask, nt), append(at, len(resp.Topics))
			}
			resp.Topics = append(resp.Topics, r)
		}
		if len(ask) == 0 {
			return resp
		}
		res, rev, err := b.o.Admin.CreateTopics(ctx, ask, req.ValidateOnly)
		b.applied(ctx, rev)
		for i, n := range at {
			r := &resp.Topics[n]
			e := adminError(err)
			if err == nil {
				e = res[i].Err
			}
			if e != nil {
				r.ErrorCode, r.ErrorMessage = kerr.Code(e), kerr.Message(e)
				continue
			}
			r.TopicID, r.NumPartitions, r.ReplicationFactor = res[i].ID, res[i].Partitions, res[i].ReplicationFactor
			if req.Version >= 5 {
				r.Configs = b.createdConfigs(r.Topic, ask[i].Config)
			}
		}
		return resp
	})
}

// newTopic checks what only the request's version decides.
func newTopic(version int16, t *kmsg.CreateTopicsRequestTopic) (meta.NewTopic, error) {
	nt := meta.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
	if len(t.ReplicaAssignment) > 0 {
		if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
			return nt, kerr.With(kerr.InvalidRequest, "topic %q gives both a replica assignment and counts; the counts must be -1 then", t.Topic)
		}
		nt.Assignment = make([][]model.BrokerID, len(t.ReplicaAssignment))
		for _, a := range t.ReplicaAssignment {
			if a.Partition < 0 || int(a.Partition) >= len(nt.Assignment) || nt.Assignment[a.Partition] != nil {
				return nt, kerr.With(kerr.InvalidReplicaAssignment, "the partitions of topic %q must be numbered from 0 without gaps", t.Topic)
			}
			nt.Assignment[a.Partition] = brokerIDs(a.Replicas)
		}
	} else if version < 4 {
		if t.NumPartitions < 1 {
			return nt, kerr.With(kerr.InvalidPartitions, "topic %q needs at least 1 partition, not %d", t.Topic, t.NumPartitions)
		}
		if t.ReplicationFactor < 1 {
			return nt, kerr.With(kerr.InvalidReplicationFactor, "topic %q needs a replication factor of at least 1, not %d", t.Topic, t.ReplicationFactor)
		}
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return nt, kerr.With(kerr.InvalidConfig, "config %q of topic %q has no value", c.Name, t.Topic)
		}
		if nt.Config == nil {
			nt.Config = map[string]string{}
		}
		nt.Config[c.Name] = *c.Value
	}
	return nt, nil
}

func brokerIDs(in []int32) []model.BrokerID {
	out := make([]model.BrokerID, len(in))
	for i, id := range in {
		out[i] = model.BrokerID(id)
	}
	return out
}

// DeleteTopics (20): 0 to 6; by id from v6.
func (b *Broker) deleteTopics(p *wire.Pending, req *kmsg.DeleteTopicsRequest) wire.Outcome {
	return b.later(p, req.TimeoutMillis, func(ctx context.Context) kmsg.Response {
		resp := kmsg.NewPtrDeleteTopicsResponse()
		topics := req.Topics
		if req.Version < 6 {
			for _, name := range req.TopicNames {
				t := kmsg.NewDeleteTopicsRequestTopic()
				t.Topic = &name
				topics = append(topics, t)
			}
		}
		im := b.o.Image()
		var ask []model.TopicID
		var at []int
		for _, t := range topics {
			r := kmsg.NewDeleteTopicsResponseTopic()
			r.Topic, r.TopicID = t.Topic, t.TopicID
			var found *meta.Topic
			var err error
			switch {
			case t.Topic != nil && t.TopicID != (model.TopicID{}):
				err = kerr.With(kerr.InvalidRequest, "give either the topic's name or its id, not both")
			case t.Topic != nil:
				if found = im.Topics[*t.Topic]; found == nil {
					err = kerr.UnknownTopicOrPartition
				}
			default:
				if found = im.TopicsByID[t.TopicID]; found == nil {
					err = kerr.UnknownTopicID
				}
			}
			switch {
			case err != nil:
			case meta.IsInternal(found.Name):
				err = kerr.With(kerr.InvalidRequest, "topic %q is internal and cannot be deleted", found.Name)
			case !b.o.DeleteTopics():
				err = kerr.TopicDeletionDisabled
				if req.Version < 3 {
					err = kerr.InvalidRequest
				}
			}
			if found != nil {
				name := found.Name
				r.Topic, r.TopicID = &name, found.ID
			}
			if err != nil {
				r.ErrorCode, r.ErrorMessage = kerr.Code(err), kerr.Message(err)
			} else {
				ask, at = append(ask, found.ID), append(at, len(resp.Topics))
			}
			resp.Topics = append(resp.Topics, r)
		}
		if len(ask) == 0 {
			return resp
		}
		errs, rev, err := b.o.Admin.DeleteTopics(ctx, ask)
		b.applied(ctx, rev)
		for i, n := range at {
			e := adminError(err)
			if err == nil {
				e = errs[i]
			}
			resp.Topics[n].ErrorCode, resp.Topics[n].ErrorMessage = kerr.Code(e), kerr.Message(e)
		}
		return resp
	})
}

// CreatePartitions (37): 0 to 3.
func (b *Broker) createPartitions(p *wire.Pending, req *kmsg.CreatePartitionsRequest) wire.Outcome {
	return b.later(p, req.TimeoutMillis, func(ctx context.Context) kmsg.Response {
		resp := kmsg.NewPtrCreatePartitionsResponse()
		ask := make([]meta.MorePartitions, len(req.Topics))
		for i, t := range req.Topics {
			ask[i] = meta.MorePartitions{Topic: t.Topic, Count: t.Count}
			for _, a := range t.Assignment {
				ask[i].Assignment = append(ask[i].Assignment, brokerIDs(a.Replicas))
			}
		}
		errs, rev, err := b.o.Admin.CreatePartitions(ctx, ask, req.ValidateOnly)
		b.applied(ctx, rev)
		for i, t := range req.Topics {
			r := kmsg.NewCreatePartitionsResponseTopic()
			r.Topic = t.Topic
			e := adminError(err)
			if err == nil {
				e = errs[i]
			}
			r.ErrorCode, r.ErrorMessage = kerr.Code(e), kerr.Message(e)
			resp.Topics = append(resp.Topics, r)
		}
		return resp
	})
}

// UpdateFeatures (57): 0 to 2 (KIP-584, KIP-778).
func (b *Broker) updateFeatures(p *wire.Pending, req *kmsg.UpdateFeaturesRequest) wire.Outcome {
	return b.later(p, req.TimeoutMillis, func(ctx context.Context) kmsg.Response {
		resp := kmsg.NewPtrUpdateFeaturesResponse()
		ask := make([]meta.FeatureUpdate, len(req.FeatureUpdates))
		errs := make([]error, len(ask))
		bad := false
		for i, u := range req.FeatureUpdates {
			ask[i] = meta.FeatureUpdate{Name: u.Feature, Level: u.MaxVersionLevel, AllowDowngrade: u.AllowDowngrade || u.UpgradeType > 1}
			errs[i] = checkFeature(u.Feature, u.MaxVersionLevel)
			bad = bad || errs[i] != nil
		}
		var err error
		if !bad {
			var rev int64
			var res []error
			if res, rev, err = b.o.Admin.UpdateFeatures(ctx, ask, req.ValidateOnly); err == nil {
				errs = res
			}
			b.applied(ctx, rev)
		}
		if e := adminError(err); e != nil {
			resp.ErrorCode, resp.ErrorMessage = kerr.Code(e), kerr.Message(e)
			return resp
		}
		for i, u := range req.FeatureUpdates {
			r := kmsg.NewUpdateFeaturesResponseResult()
			r.Feature = u.Feature
			r.ErrorCode, r.ErrorMessage = kerr.Code(errs[i]), kerr.Message(errs[i])
			if req.Version >= 2 && errs[i] != nil {
				// v2 has one error for the whole request.
				resp.ErrorCode, resp.ErrorMessage = r.ErrorCode, r.ErrorMessage
			}
			resp.Results = append(resp.Results, r)
		}
		return resp
	})
}

func checkFeature(name string, level int16) error {
	for _, f := range Features() {
		if f.Name != name {
			continue
		}
		if level < f.Min || level > f.Max {
			return kerr.With(kerr.InvalidUpdateVersion, "feature %s cannot be at level %d; this build runs %d to %d", name, level, f.Min, f.Max)
		}
		return nil
	}
	return kerr.With(kerr.InvalidUpdateVersion, "feature %q is not known here", name)
}
