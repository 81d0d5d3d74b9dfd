package broker

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// Configs describes what is configured; package node binds it to package config.
type Configs interface {
	// Topic describes a topic's effective configuration; names restricts it, nil is all.
	Topic(im *meta.Image, t *meta.Topic, names []string) []ConfigEntry
	// Broker describes this broker; with dynamicOnly only what the cluster-wide default
	// (resource name "") sets.
	Broker(im *meta.Image, dynamicOnly bool, names []string) []ConfigEntry
	// Group describes a consumer group.
	Group(im *meta.Image, group string, names []string) []ConfigEntry
}

// ConfigEntry is one described key.
type ConfigEntry struct {
	Name                string
	Value               *string
	Source              int8 // the protocol's ConfigSource
	Type                int8 // the protocol's ConfigType
	ReadOnly, Sensitive bool
	Doc                 string
	Synonyms            []ConfigSynonym
}

// ConfigSynonym is one place that a value can come from, strongest first.
type ConfigSynonym struct {
	Name   string
	Value  *string
	Source int8
}

// DescribeConfigs (32): 0 to 4; synonyms from v1, documentation and type from v3.
func (b *Broker) describeConfigs(_ *wire.Pending, req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	im := b.o.Image()
	type resource struct {
		kind int8
		name string
	}
	seen := make(map[resource]bool, len(req.Resources))
	for _, r := range req.Resources {
		if k := (resource{int8(r.ResourceType), r.ResourceName}); seen[k] {
			continue // each once: the answer is a thousand times longer than the question
		} else {
			seen[k] = true
		}
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		entries, err := b.describeResource(im, int8(r.ResourceType), r.ResourceName, r.ConfigNames)
		if err != nil {
			rr.ErrorCode, rr.ErrorMessage = kerr.Code(err), kerr.Message(err)
		}
		for _, e := range entries {
			rr.Configs = append(rr.Configs, describedConfig(req, &e))
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

func describedConfig(req *kmsg.DescribeConfigsRequest, e *ConfigEntry) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Value, c.ReadOnly, c.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	c.Source, c.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type)
	c.IsDefault = e.Source == int8(kmsg.ConfigSourceDefaultConfig)
	if req.IncludeDocumentation {
		doc := e.Doc
		c.Documentation = &doc
	}
	if req.IncludeSynonyms {
		for _, s := range e.Synonyms {
			cs := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			cs.Name, cs.Value, cs.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
			c.ConfigSynonyms = append(c.ConfigSynonyms, cs)
		}
	}
	return c
}

func (b *Broker) describeResource(im *meta.Image, kind int8, name string, keys []string) ([]ConfigEntry, error) {
	switch meta.ResourceKind(kind) {
	case meta.ResourceTopic:
		t := im.Topics[name]
		if t == nil {
			return nil, metadataError(name, nil)
		}
		return b.o.Configs.Topic(im, t, keys), nil
	case meta.ResourceBroker:
		if name == "" {
			return b.o.Configs.Broker(im, true, keys), nil
		}
		if name != strconv.Itoa(int(b.nodeID())) {
			return nil, kerr.With(kerr.InvalidRequest, "broker %s must be asked itself; this is broker %d", name, b.nodeID())
		}
		return b.o.Configs.Broker(im, false, keys), nil
	case meta.ResourceGroup:
		if name == "" {
			return nil, kerr.With(kerr.InvalidRequest, "the name of a group cannot be empty")
		}
		return b.o.Configs.Group(im, name, keys), nil
	}
	return nil, kerr.With(kerr.InvalidRequest, "config resources of type %d are not known here", kind)
}

// createdConfigs are the entries of a CreateTopics answer; the topic may be a dry run.
func (b *Broker) createdConfigs(name string, own map[string]string) []kmsg.CreateTopicsResponseTopicConfig {
	im := b.o.Image()
	t := im.Topics[name]
	if t == nil {
		t = &meta.Topic{Name: name, Config: own}
	}
	var out []kmsg.CreateTopicsResponseTopicConfig
	for _, e := range b.o.Configs.Topic(im, t, nil) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.ReadOnly, c.Source, c.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Source, e.Sensitive
		out = append(out, c)
	}
	return out
}

// AlterConfigs (33): 0 to 2. The given keys become the whole configuration.
func (b *Broker) alterConfigs(p *wire.Pending, req *kmsg.AlterConfigsRequest) wire.Outcome {
	changes := make([]meta.ConfigChange, len(req.Resources))
	for i, r := range req.Resources {
		changes[i] = meta.ConfigChange{Kind: meta.ResourceKind(r.ResourceType), Name: r.ResourceName, Replace: true}
		for _, c := range r.Configs {
			changes[i].Ops = append(changes[i].Ops, meta.ConfigOpEntry{Key: c.Name, Op: meta.ConfigSet, Value: c.Value})
		}
	}
	return b.later(p, 0, func(ctx context.Context) kmsg.Response {
		resp := kmsg.NewPtrAlterConfigsResponse()
		for i, err := range b.changeConfigs(ctx, changes, req.ValidateOnly) {
			r := kmsg.NewAlterConfigsResponseResource()
			r.ResourceType, r.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
			r.ErrorCode, r.ErrorMessage = kerr.Code(err), kerr.Message(err)
			resp.Resources = append(resp.Resources, r)
		}
		return resp
	})
}

// IncrementalAlterConfigs (44): 0 to 1 (KIP-339).
func (b *Broker) incrementalAlterConfigs(p *wire.Pending, req *kmsg.IncrementalAlterConfigsRequest) wire.Outcome {
	changes := make([]meta.ConfigChange, len(req.Resources))
	for i, r := range req.Resources {
		changes[i] = meta.ConfigChange{Kind: meta.ResourceKind(r.ResourceType), Name: r.ResourceName}
		for _, c := range r.Configs {
			changes[i].Ops = append(changes[i].Ops, meta.ConfigOpEntry{Key: c.Name, Op: meta.ConfigOp(c.Op), Value: c.Value})
		}
	}
	return b.later(p, 0, func(ctx context.Context) kmsg.Response {
		resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
		for i, err := range b.changeConfigs(ctx, changes, req.ValidateOnly) {
			r := kmsg.NewIncrementalAlterConfigsResponseResource()
			r.ResourceType, r.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
			r.ErrorCode, r.ErrorMessage = kerr.Code(err), kerr.Message(err)
			resp.Resources = append(resp.Resources, r)
		}
		return resp
	})
}

// changeConfigs passes the changes that make sense to the controller and returns one
// error or nil for each.
func (b *Broker) changeConfigs(ctx context.Context, changes []meta.ConfigChange, validateOnly bool) []error {
	out := make([]error, len(changes))
	seen := map[string]int{}
	id := func(c meta.ConfigChange) string { return strconv.Itoa(int(c.Kind)) + "/" + c.Name }
	for _, c := range changes {
		seen[id(c)]++
	}
	im := b.o.Image()
	var ask []meta.ConfigChange
	var at []int
	for i, c := range changes {
		if seen[id(c)] > 1 {
			out[i] = kerr.With(kerr.InvalidRequest, "resource %q is named more than once in one request", c.Name)
			continue
		}
		if out[i] = checkChange(im, c); out[i] == nil {
			ask, at = append(ask, c), append(at, i)
		}
	}
	if len(ask) == 0 {
		return out
	}
	errs, rev, err := b.o.Admin.AlterConfigs(ctx, ask, validateOnly)
	b.applied(ctx, rev)
	for i, n := range at {
		if err != nil {
			out[n] = adminError(err)
		} else {
			out[n] = errs[i]
		}
	}
	return out
}

func checkChange(im *meta.Image, c meta.ConfigChange) error {
	switch c.Kind {
	case meta.ResourceTopic:
		if im.Topics[c.Name] == nil {
			return metadataError(c.Name, nil)
		}
	case meta.ResourceBroker:
		if c.Name != "" {
			if _, err := strconv.ParseInt(c.Name, 10, 32); err != nil {
				return kerr.With(kerr.InvalidRequest, "%q is not a broker id; leave the name empty for all brokers", c.Name)
			}
		}
	case meta.ResourceGroup:
		if c.Name == "" {
			return kerr.With(kerr.InvalidRequest, "the name of a group cannot be empty")
		}
	default:
		return kerr.With(kerr.InvalidRequest, "config resources of type %d cannot be altered here", c.Kind)
	}
	seen := map[string]bool{}
	for _, op := range c.Ops {
		if seen[op.Key] {
			return kerr.With(kerr.InvalidRequest, "config %q is given more than once", op.Key)
		}
		seen[op.Key] = true
		if op.Value == nil && op.Op != meta.ConfigDelete {
			return kerr.With(kerr.InvalidRequest, "config %q has no value", op.Key)
		}
		if op.Op < meta.ConfigSet || op.Op > meta.ConfigSubtract {
			return kerr.With(kerr.InvalidRequest, "operation %d on config %q is not known", op.Op, op.Key)
		}
	}
	return nil
}

// ListConfigResources (74): 0 to 1 (KIP-1000, KIP-1142). v0 asks for client metrics
// resources, of which there are none.
func (b *Broker) listConfigResources(_ *wire.Pending, req *kmsg.ListConfigResourcesRequest) kmsg.Response {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	if req.Version == 0 {
		return resp
	}
	im := b.o.Image()
	add := func(kind meta.ResourceKind, names []string) {
		if len(req.ResourceTypes) > 0 && !slices.Contains(req.ResourceTypes, int8(kind)) {
			return
		}
		for _, n := range names {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = n, int8(kind)
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	for _, t := range req.ResourceTypes {
		switch meta.ResourceKind(t) {
		case meta.ResourceTopic, meta.ResourceBroker, meta.ResourceGroup, resourceClientMetrics, resourceBrokerLogger:
		default:
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			return resp
		}
	}
	add(meta.ResourceTopic, im.TopicNames())
	var brokers []string
	for _, id := range im.BrokerIDs() {
		brokers = append(brokers, strconv.Itoa(int(id)))
	}
	add(meta.ResourceBroker, brokers)
	add(meta.ResourceGroup, slices.Sorted(maps.Keys(im.GroupConfigs)))
	return resp
}

// Resource types that clients may ask for and that have no entries here.
const (
	resourceBrokerLogger  meta.ResourceKind = 8
	resourceClientMetrics meta.ResourceKind = 16
)
