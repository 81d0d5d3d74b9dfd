package cli

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokerInfo is a registered broker.
type brokerInfo struct {
	ID   int32  `json:"id"`
	Host string `json:"host"`
	Port int32  `json:"port"`
	Rack string `json:"rack,omitempty"`
}

// clusterInfo is what metadata tells about a cluster and all of its topics.
type clusterInfo struct {
	id         string
	controller int32 // -1: none
	brokers    []brokerInfo
	topics     []topicInfo
	// broken are topics that metadata has an error for.
	broken []string
}

// cluster asks for everything that metadata knows.
func (c *client) cluster(ctx context.Context) (*clusterInfo, error) {
	md, err := c.adm.Metadata(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	info := &clusterInfo{id: md.Cluster, controller: md.Controller}
	for _, b := range md.Brokers {
		bi := brokerInfo{ID: b.NodeID, Host: b.Host, Port: b.Port}
		if b.Rack != nil {
			bi.Rack = *b.Rack
		}
		info.brokers = append(info.brokers, bi)
	}
	sort.Slice(info.brokers, func(i, j int) bool { return info.brokers[i].ID < info.brokers[j].ID })
	for _, t := range md.Topics.Sorted() {
		if t.Err != nil {
			name := convert(t.Err).Error()
			if k := protocolError(convert(t.Err)); k != nil {
				name = k.Name
			}
			info.broken = append(info.broken, fmt.Sprintf("topic %s: %s", t.Topic, name))
			continue
		}
		ti := topicInfo{name: t.Topic, internal: t.IsInternal}
		for _, p := range t.Partitions.Sorted() {
			ti.partitions = append(ti.partitions, partitionInfo{
				n: p.Partition, leader: p.Leader, leaderEpoch: p.LeaderEpoch,
				replicas: p.Replicas, isr: p.ISR, offline: p.OfflineReplicas, err: convert(p.Err),
			})
		}
		info.topics = append(info.topics, ti)
	}
	return info, nil
}

// feature is a finalized feature of a cluster.
type feature struct {
	Name  string `json:"name"`
	Level int16  `json:"level"`
}

// features asks a broker for the features that the cluster has agreed on.
func (c *client) features(ctx context.Context) ([]feature, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "kalda-cli", softwareVersion()
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return nil, c.explain(err)
	}
	var list []feature
	for _, f := range resp.FinalizedFeatures {
		list = append(list, feature{f.Name, f.MaxVersionLevel})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// storedByBroker returns the bytes that each broker holds; brokers that do not tell are
// missing.
func (c *client) storedByBroker(ctx context.Context) map[int32]int64 {
	m := make(map[int32]int64)
	all, err := c.adm.DescribeAllLogDirs(ctx, nil)
	if err != nil && len(all) == 0 {
		return m
	}
	for _, d := range all.Sorted() {
		if d.Err == nil {
			m[d.Broker] += d.Size()
		}
	}
	return m
}

// someBroker returns the id of the broker whose configuration stands for the cluster's:
// the controller, or else the first one.
func (i *clusterInfo) someBroker() (int32, error) {
	if len(i.brokers) == 0 {
		return 0, errors.New("the cluster names no broker")
	}
	for _, b := range i.brokers {
		if b.ID == i.controller {
			return b.ID, nil
		}
	}
	return i.brokers[0].ID, nil
}
