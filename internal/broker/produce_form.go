package broker

import (
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// checkForm tests what a Produce of that version may carry for one partition: from v3 on
// exactly one record batch; before, a message set, which may be empty, or one record batch.
// Kafka: ProduceRequest.validateRecords, LogValidator.
func checkForm(version int16, records []byte, tp model.TopicPartition) (empty bool, err error) {
	switch {
	case records == nil:
		return false, kerr.With(kerr.InvalidRecord, "a Produce for %s without records", tp)
	case len(records) == 0 && version < 3:
		return true, nil
	case len(records) == 0:
		return false, kerr.With(kerr.InvalidRecord, "a Produce for %s without records", tp)
	case len(records) < record.LogOverhead+5:
		return false, nil // too short for a magic; it will be refused as cut
	}
	switch m := record.Batch(records).Magic(); {
	case m == record.Magic && len(records) >= record.HeaderLen:
		if n := record.Batch(records).Size(); n >= record.HeaderLen && n < len(records) {
			return false, kerr.With(kerr.InvalidRecord, "a Produce for %s with more than one record batch", tp)
		}
	case version >= 3 && (m == 0 || m == 1):
		return false, kerr.With(kerr.InvalidRecord, "a Produce of version %d for %s with a message set of magic %d", version, tp, m)
	}
	return false, nil
}
