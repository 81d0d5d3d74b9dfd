package node

import (
	"context"
	"strconv"

	"github.com/kalda-io/kalda/internal/broker"
	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/controller"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// adminOf sends admin calls to whichever controller of this process is elected.
type adminOf struct{ b *Broker }

func (a adminOf) local() controller.Local { return *a.b.peers.Load() }

// CreateTopics implements meta.Admin.
func (a adminOf) CreateTopics(ctx context.Context, topics []meta.NewTopic, validateOnly bool) ([]meta.NewTopicResult, int64, error) {
	return a.local().CreateTopics(ctx, topics, validateOnly)
}

// DeleteTopics implements meta.Admin.
func (a adminOf) DeleteTopics(ctx context.Context, ids []model.TopicID) ([]error, int64, error) {
	return a.local().DeleteTopics(ctx, ids)
}

// CreatePartitions implements meta.Admin.
func (a adminOf) CreatePartitions(ctx context.Context, topics []meta.MorePartitions, validateOnly bool) ([]error, int64, error) {
	return a.local().CreatePartitions(ctx, topics, validateOnly)
}

// AlterConfigs implements meta.Admin.
func (a adminOf) AlterConfigs(ctx context.Context, changes []meta.ConfigChange, validateOnly bool) ([]error, int64, error) {
	return a.local().AlterConfigs(ctx, changes, validateOnly)
}

// UpdateFeatures implements meta.Admin.
func (a adminOf) UpdateFeatures(ctx context.Context, updates []meta.FeatureUpdate, validateOnly bool) ([]error, int64, error) {
	return a.local().UpdateFeatures(ctx, updates, validateOnly)
}

// controllerRules are the settings that the controller plans by.
func (b *Broker) controllerRules() controller.Rules {
	c := b.config.Load()
	opts := c.Broker()
	topic, err := c.Topic(nil, nil)
	if err != nil {
		panic(err) // static values were checked when they were loaded
	}
	r := controller.Rules{
		DefaultPartitions:        opts.NumPartitions,
		DefaultReplicationFactor: opts.DefaultReplicationFactor,
		MinISR:                   topic.MinInsyncReplicas,
		FlushPolicy:              topic.FlushPolicy,
		Config: controller.ConfigRules{
			Normalize: normalizeConfig,
			Check:     b.checkTopicConfig,
			List:      listConfig,
			Default:   defaultConfig,
		},
		Features:      map[string]controller.FeatureRange{},
		MaxPartitions: opts.MaxPartitions,
	}
	for _, f := range broker.Features() {
		r.Features[f.Name] = controller.FeatureRange{Min: f.Min, Max: f.Max}
	}
	return r
}

// checkTopicConfig holds a topic's values, with the static ones behind them, against each
// other.
func (b *Broker) checkTopicConfig(topic map[string]string) error {
	o, err := b.config.Load().Topic(topic, nil)
	if err != nil {
		return nil // a value of an older version, which does not stand in the way
	}
	return o.Check()
}

func normalizeConfig(kind meta.ResourceKind, name, key, value string) (string, error) {
	switch kind {
	case meta.ResourceTopic:
		v, err := config.NormalizeTopic(key, value, meta.IsInternal(name))
		if err == nil && key == "cleanup.policy" && meta.IsInternal(name) && v != "compact" {
			return "", kerr.With(kerr.InvalidConfig, "cleanup.policy of %s must stay compact: %q would delete state that is still in use", name, v)
		}
		return v, err
	case meta.ResourceGroup:
		return config.NormalizeGroup(key, value)
	default:
		return config.NormalizeBrokerDynamic(key, value, name != "")
	}
}

// keysOf are the keys of a kind of resource.
func keysOf(kind meta.ResourceKind) []config.Key {
	switch kind {
	case meta.ResourceTopic:
		return config.TopicKeys()
	case meta.ResourceGroup:
		return config.GroupKeys()
	default:
		return config.BrokerKeys()
	}
}

func listConfig(kind meta.ResourceKind, key string) bool {
	for _, k := range keysOf(kind) {
		if k.Name == key {
			return k.Type == config.List
		}
	}
	return false
}

func defaultConfig(kind meta.ResourceKind, key string) string {
	for _, k := range keysOf(kind) {
		if k.Name == key {
			return k.Default
		}
	}
	return ""
}

// describer implements broker.Configs from the table of keys.
type describer struct{ b *Broker }

// Topic implements broker.Configs.
func (d describer) Topic(im *meta.Image, t *meta.Topic, names []string) []broker.ConfigEntry {
	es := d.b.config.Load().DescribeTopic(t.Config, dynamic(im, d.b.id), names)
	if len(t.Partitions) > 0 {
		// Where nobody set them, these two follow the replication factor; clients see
		// what is in force.
		st := t.Partitions[0]
		es = config.WithDerived(es, map[string]string{
			"min.insync.replicas": strconv.Itoa(int(st.MinISR)), "kalda.flush.policy": st.FlushPolicy,
		})
	}
	return entries(es)
}

// Broker implements broker.Configs.
func (d describer) Broker(im *meta.Image, dynamicOnly bool, names []string) []broker.ConfigEntry {
	if dynamicOnly {
		return entries(d.b.config.Load().DescribeBrokerDefault(dynamic(im, d.b.id), names))
	}
	return entries(d.b.config.Load().DescribeBroker(dynamic(im, d.b.id), names))
}

// Group implements broker.Configs.
func (d describer) Group(im *meta.Image, group string, names []string) []broker.ConfigEntry {
	return entries(d.b.config.Load().DescribeGroup(im.GroupConfigs[group], dynamic(im, d.b.id), names))
}

func entries(in []config.Entry) []broker.ConfigEntry {
	out := make([]broker.ConfigEntry, len(in))
	for i, e := range in {
		out[i] = broker.ConfigEntry{
			Name: e.Name, Value: e.Value, Source: int8(e.Source), Type: int8(e.Type),
			ReadOnly: e.ReadOnly, Sensitive: e.Sensitive, Doc: e.Doc,
		}
		for _, s := range e.Synonyms {
			out[i].Synonyms = append(out[i].Synonyms, broker.ConfigSynonym{Name: s.Name, Value: s.Value, Source: int8(s.Source)})
		}
	}
	return out
}
