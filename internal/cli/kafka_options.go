package cli

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// properties are the -X key=value pairs in the form that the client takes. What a
// command must know itself is also kept by name.
type properties struct {
	opts []kgo.Opt
	// commitInterval is auto.commit.interval.ms; 0 when it was not given.
	commitInterval time.Duration
	// autoCommit is enable.auto.commit.
	autoCommit bool
	// maxRequestSize is max.request.size in bytes; 0 when it was not given.
	maxRequestSize int32
}

// property translates one value; the key is one of Kafka's client properties.
type property struct {
	doc string
	set func(p *properties, v string) error
}

func msProperty(doc string, opt func(time.Duration) kgo.Opt) property {
	return property{doc, func(p *properties, v string) error {
		d, err := parseMillis(v)
		if err == nil {
			p.opts = append(p.opts, opt(d))
		}
		return err
	}}
}

func bytesProperty(doc string, opt func(int32) kgo.Opt) property {
	return property{doc, func(p *properties, v string) error {
		n, err := parseSize(v)
		if err == nil {
			p.opts = append(p.opts, opt(n))
		}
		return err
	}}
}

func textProperty(doc string, opt func(string) kgo.Opt) property {
	return property{doc, func(p *properties, v string) error {
		p.opts = append(p.opts, opt(v))
		return nil
	}}
}

// clientProperties is the table of -X. It is a function because a map in a variable
// could change.
func clientProperties() map[string]property {
	return map[string]property{
		"client.id":                 textProperty("name that the broker's log shows", func(v string) kgo.Opt { return kgo.ClientID(v) }),
		"client.rack":               textProperty("read from a replica in this rack", func(v string) kgo.Opt { return kgo.Rack(v) }),
		"group.instance.id":         textProperty("static member (KIP-345)", func(v string) kgo.Opt { return kgo.InstanceID(v) }),
		"session.timeout.ms":        msProperty("a silent member is removed after this time", func(d time.Duration) kgo.Opt { return kgo.SessionTimeout(d) }),
		"heartbeat.interval.ms":     msProperty("time between heartbeats", func(d time.Duration) kgo.Opt { return kgo.HeartbeatInterval(d) }),
		"max.poll.interval.ms":      msProperty("how long a rebalance waits for this member", func(d time.Duration) kgo.Opt { return kgo.RebalanceTimeout(d) }),
		"fetch.max.wait.ms":         msProperty("how long a fetch waits for fetch.min.bytes", func(d time.Duration) kgo.Opt { return kgo.FetchMaxWait(d) }),
		"fetch.min.bytes":           bytesProperty("a fetch is answered as soon as this much is there", func(n int32) kgo.Opt { return kgo.FetchMinBytes(n) }),
		"fetch.max.bytes":           bytesProperty("limit of one fetch", func(n int32) kgo.Opt { return kgo.FetchMaxBytes(n) }),
		"max.partition.fetch.bytes": bytesProperty("limit of one partition in a fetch", func(n int32) kgo.Opt { return kgo.FetchMaxPartitionBytes(n) }),
		"linger.ms":                 msProperty("how long a batch waits for more records", func(d time.Duration) kgo.Opt { return kgo.ProducerLinger(d) }),
		"delivery.timeout.ms":       msProperty("a record not acknowledged in this time has failed", func(d time.Duration) kgo.Opt { return kgo.RecordDeliveryTimeout(d) }),
		"request.timeout.ms":        msProperty("how long the broker may take to acknowledge", func(d time.Duration) kgo.Opt { return kgo.ProduceRequestTimeout(d) }),
		"metadata.max.age.ms":       msProperty("how old the view of the cluster may be", func(d time.Duration) kgo.Opt { return kgo.MetadataMaxAge(d) }),
		"max.request.size": {"limit of one batch", func(p *properties, v string) (err error) {
			p.maxRequestSize, err = parseSize(v)
			return err
		}},
		"auto.commit.interval.ms": {"time between commits of consume -g", func(p *properties, v string) (err error) {
			p.commitInterval, err = parseMillis(v)
			return err
		}},
		"enable.auto.commit": {"false: consume -g commits nothing", func(p *properties, v string) (err error) {
			p.autoCommit, err = strconv.ParseBool(v)
			return err
		}},
		"isolation.level": {"read_uncommitted or read_committed", func(p *properties, v string) error {
			switch v {
			case "read_uncommitted":
				p.opts = append(p.opts, kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
			case "read_committed":
				p.opts = append(p.opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
			default:
				return fmt.Errorf("want read_uncommitted or read_committed")
			}
			return nil
		}},
		"partition.assignment.strategy": {"cooperative-sticky, range, roundrobin or sticky, or several with commas", func(p *properties, v string) error {
			var bs []kgo.GroupBalancer
			for name := range strings.SplitSeq(v, ",") {
				switch strings.TrimSpace(name) {
				case "cooperative-sticky":
					bs = append(bs, kgo.CooperativeStickyBalancer())
				case "sticky":
					bs = append(bs, kgo.StickyBalancer())
				case "range":
					bs = append(bs, kgo.RangeBalancer())
				case "roundrobin":
					bs = append(bs, kgo.RoundRobinBalancer())
				default:
					return fmt.Errorf("no assignor %q", name)
				}
			}
			p.opts = append(p.opts, kgo.Balancers(bs...))
			return nil
		}},
		"security.protocol": {"PLAINTEXT only, so far", func(_ *properties, v string) error {
			if v != "PLAINTEXT" {
				return fmt.Errorf("this version speaks PLAINTEXT only")
			}
			return nil
		}},
	}
}

// parseProperties reads the -X pairs.
func parseProperties(pairs []string) (*properties, error) {
	p := &properties{autoCommit: true}
	table := clientProperties()
	for _, kv := range pairs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, usage("-X %s: want key=value", kv)
		}
		prop, ok := table[k]
		if !ok {
			f := &failure{what: "-X " + k + ": no such client property", code: ExitUsage}
			names := make([]string, 0, len(table))
			for n := range table {
				names = append(names, n)
			}
			sort.Strings(names)
			if n := nearest(k, names); n != "" {
				f.hint = "did you mean " + n + "?"
			}
			return nil, f
		}
		if err := prop.set(p, v); err != nil {
			return nil, usage("-X %s: %v", kv, err)
		}
	}
	return p, nil
}
