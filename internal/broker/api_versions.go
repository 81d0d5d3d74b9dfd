package broker

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// softwareName is the rule for the client's software name and version (KIP-511).
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// ApiVersions (18): 0 to 5. v3 brings names, v5 the check that the client reached the
// cluster and node it meant (KIP-1242).
func (b *Broker) apiVersions(p *wire.Pending, req *kmsg.ApiVersionsRequest) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	im := b.o.Image()
	if req.Version >= 3 {
		if !softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion) {
			resp.ErrorCode = kerr.InvalidRequest.Code
			return resp
		}
		p.Conn.SoftwareName, p.Conn.SoftwareVersion = req.ClientSoftwareName, req.ClientSoftwareVersion
	}
	if req.Version >= 5 {
		switch hasCluster, hasNode := req.ClusterID != nil, req.NodeID >= 0; {
		case hasCluster != hasNode:
			resp.ErrorCode = kerr.InvalidRequest.Code
			return resp
		case hasCluster && (*req.ClusterID != im.ClusterID || req.NodeID != int32(b.nodeID())):
			resp.ErrorCode = kerr.RebootstrapRequired.Code
			return resp
		}
	}
	resp.ApiKeys = b.apis.keys()
	for _, f := range Features() {
		s := kmsg.NewApiVersionsResponseSupportedFeature()
		s.Name, s.MinVersion, s.MaxVersion = f.Name, f.Min, f.Max
		resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		if level := im.Features[f.Name]; level > 0 {
			fin := kmsg.NewApiVersionsResponseFinalizedFeature()
			fin.Name, fin.MinVersionLevel, fin.MaxVersionLevel = f.Name, level, level
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, fin)
		}
	}
	resp.FinalizedFeaturesEpoch = im.Revision
	return resp
}

// apiVersionsUnsupported answers a version that we don't know the way every client can
// read: in version 0, with the versions that we do know.
func (b *Broker) apiVersionsUnsupported(p *wire.Pending) wire.Outcome {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	resp.ApiKeys = b.apis.keys()
	resp.Version = 0
	p.Resp = resp.AppendTo(p.Resp)
	return wire.Done
}

// keys lists the table as ApiVersions does.
func (t apiTable) keys() []kmsg.ApiVersionsResponseApiKey {
	var out []kmsg.ApiVersionsResponseApiKey
	for key, a := range t {
		if a != nil {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MinVersion, k.MaxVersion = int16(key), a.min, a.max
			out = append(out, k)
		}
	}
	return out
}

// Feature is a feature with the levels that this build can run at.
type Feature struct {
	Name     string
	Min, Max int16
	// Default is finalized when a cluster is founded.
	Default int16
}

// Features lists the features of this build. metadata.version is Kafka's number for
// the newest metadata format (4.3-IV0): clients and tools read it as "how new".
func Features() []Feature {
	return []Feature{{Name: "metadata.version", Min: 7, Max: 29, Default: 29}}
}
