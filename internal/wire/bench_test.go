package wire

import "testing"

func BenchmarkParseHeader(b *testing.B) {
	frame := header(0, 12, 0, 6, 'c', 'l', 'i', 'e', 'n', 't', 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseHeader(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProduceDecode(b *testing.B) {
	r := ProduceRequest{Version: 12, Acks: 1, Topics: []ProduceTopic{
		{Name: []byte("orders"), Partitions: []ProducePartition{{Index: 1, Records: make([]byte, 170)}}}}}
	body := r.AppendTo(nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Decode(12, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProduceAnswer(b *testing.B) {
	name := []byte("orders")
	p := NewProducedPartition(1, 0)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendResponseHeader(buf[:0], KeyProduce, 12, 7)
		buf = AppendProduceStart(buf, 12, 1)
		buf = AppendProduceTopic(buf, 12, name, [16]byte{}, 1)
		buf, _ = AppendProduced(buf, 12, &p)
		buf = AppendProduceEnd(AppendProduceTopicEnd(buf, 12), 12, 0, nil)
		FinishFrame(buf, 0)
	}
}

func BenchmarkFetchDecode(b *testing.B) {
	r := NewFetchRequest(18)
	r.Topics = []FetchTopic{{Partitions: make([]FetchPartition, 12)}}
	body := r.AppendTo(nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Decode(18, body); err != nil {
			b.Fatal(err)
		}
	}
}
