/// Layers that are measured together: each network's distinct convolution shapes, once.
struct Suite {
    let name: String
    let layers: [String]
    var batches = [8]

    static let all = [
        Suite(
            name: "resnet50",
            layers: [
                "3x224x224-64k7s2p3",
                "64x56x56-64k1", "64x56x56-64k3p1", "64x56x56-256k1", "256x56x56-64k1",
                "256x56x56-128k1", "128x56x56-128k3s2p1", "128x28x28-512k1", "256x56x56-512k1s2", "512x28x28-128k1",
                "128x28x28-128k3p1",
                "512x28x28-256k1", "256x28x28-256k3s2p1", "256x14x14-1024k1", "512x28x28-1024k1s2",
                "1024x14x14-256k1", "256x14x14-256k3p1",
                "1024x14x14-512k1", "512x14x14-512k3s2p1", "512x7x7-2048k1", "1024x14x14-2048k1s2", "2048x7x7-512k1",
                "512x7x7-512k3p1",
            ]),
        Suite(
            name: "vgg16",
            layers: [
                "3x224x224-64k3p1", "64x224x224-64k3p1", "64x112x112-128k3p1", "128x112x112-128k3p1",
                "128x56x56-256k3p1", "256x56x56-256k3p1", "256x28x28-512k3p1", "512x28x28-512k3p1",
                "512x14x14-512k3p1",
            ]),
        Suite(
            name: "unet",
            layers: [
                "1x128x128-64k3p1", "64x128x128-64k3p1", "64x64x64-128k3p1", "128x64x64-128k3p1", "128x32x32-256k3p1",
                "256x32x32-256k3p1", "256x16x16-512k3p1", "512x16x16-512k3p1", "512x8x8-1024k3p1",
                "1024x8x8-1024k3p1", "1024x16x16-512k3p1", "512x32x32-256k3p1", "256x64x64-128k3p1",
                "128x128x128-64k3p1", "64x128x128-2k1",
            ]),
        Suite(
            name: "mobilenetv2",
            layers: [
                "3x224x224-32k3s2p1", "32x112x112-32k3p1g32", "32x112x112-16k1",
                "16x112x112-96k1", "96x112x112-96k3s2p1g96", "96x56x56-24k1", "24x56x56-144k1",
                "144x56x56-144k3p1g144", "144x56x56-24k1", "144x56x56-144k3s2p1g144", "144x28x28-32k1",
                "32x28x28-192k1", "192x28x28-192k3p1g192", "192x28x28-32k1", "192x28x28-192k3s2p1g192",
                "192x14x14-64k1", "64x14x14-384k1", "384x14x14-384k3p1g384", "384x14x14-64k1", "384x14x14-96k1",
                "96x14x14-576k1", "576x14x14-576k3p1g576", "576x14x14-96k1", "576x14x14-576k3s2p1g576",
                "576x7x7-160k1", "160x7x7-960k1", "960x7x7-960k3p1g960", "960x7x7-160k1", "960x7x7-320k1",
                "320x7x7-1280k1",
            ]),
        Suite(
            name: "convnext",
            layers: [
                "3x224x224-96k4s4", "96x56x56-96k7p3g96", "96x56x56-384k1", "384x56x56-96k1", "96x56x56-192k2s2",
                "192x28x28-192k7p3g192", "192x28x28-768k1", "768x28x28-192k1", "192x28x28-384k2s2",
                "384x14x14-384k7p3g384", "384x14x14-1536k1", "1536x14x14-384k1", "384x14x14-768k2s2",
                "768x7x7-768k7p3g768", "768x7x7-3072k1", "3072x7x7-768k1",
            ]),
        Suite(
            name: "resnext",
            layers: [
                "64x56x56-128k1", "128x56x56-128k3p1g32", "128x56x56-256k1", "256x56x56-128k1",
                "256x56x56-256k1", "256x56x56-256k3s2p1g32", "256x28x28-512k1", "512x28x28-256k1",
                "256x28x28-256k3p1g32", "512x28x28-512k1", "512x28x28-512k3s2p1g32", "512x14x14-1024k1",
                "1024x14x14-512k1", "512x14x14-512k3p1g32", "1024x14x14-1024k1", "1024x14x14-1024k3s2p1g32",
                "1024x7x7-2048k1", "2048x7x7-1024k1", "1024x7x7-1024k3p1g32",
            ]),
        Suite(
            name: "first-layer",
            layers: [
                "1x28x28-32k3p1", "1x28x28-20k5", "3x32x32-16k3p1", "3x32x32-64k3p1", "3x64x64-64k4s2p1",
                "4x84x84-32k8s4", "3x224x224-32k3s2p1", "3x224x224-64k11s4p2", "3x224x224-64k7s2p3",
                "3x224x224-96k4s4", "1x256x256-32k3p1",
            ]),
        Suite(
            name: "dilated",
            layers: [
                "64x56x56-64k3p2d2", "32x64x64-32k3p4d4", "256x28x28-256k3p2d2", "512x28x28-512k3p4d4",
                "512x28x28-256k3p6d6", "512x28x28-256k3p12d12", "64x64x64-64k3p8d8", "128x32x32-128k5p4d2",
            ]),
        Suite(
            name: "audio",
            layers: [
                "1x1x16000-64k1x80s1x4", "64x1x4000-64k1x3p0x1", "128x1x1000-128k1x3p0x1", "256x1x250-256k1x3p0x1",
                "1x1x16000-512k1x10s1x5", "512x1x3199-512k1x3s1x2", "80x1x1500-384k1x3p0x1",
                "384x1x1500-384k1x3s1x2p0x1", "32x1x4000-32k1x2d1x16", "64x1x2000-64k1x9p0x32d1x8",
                "40x1x800-40k1x31p0x15g40",
            ]),
        Suite(
            name: "small",
            layers: [
                "1x8x8-16k3p1", "16x8x8-32k3p1", "1x28x28-32k3p1", "32x14x14-64k3p1", "6x14x14-16k5",
                "16x32x32-16k3p1", "32x16x16-32k3p1", "64x8x8-64k3p1", "16x32x32-32k3s2p1", "64x8x8-10k1",
            ],
            batches: [1, 16, 128]),
        Suite(
            name: "odd",
            layers: [
                "3x33x31-7k5p2", "17x13x13-19k3p1", "31x7x7-33k1", "65x27x27-127k3p1", "5x111x111-11k3s2p1",
                "100x15x20-50k3x5p1x2", "48x30x30-24k2s2", "37x28x28-41k3s2p1", "13x40x40-29k7p3", "97x14x14-101k1",
                "51x17x19-85k3p1g17",
            ]),
    ]

    /// The layers of a suite's name, with each of its batches, or the one layer that the text describes; `batch`
    /// overrides.
    static func layers(_ text: String, batch: Int?) throws -> [(suite: String, layer: Layer)] {
        guard let suite = all.first(where: { $0.name == text }) else {
            guard text.contains("-"), text.first?.isNumber == true else {
                throw Failure(
                    "'\(text)' is neither a layer such as 64x56x56-64k3p1 nor one of the suites "
                        + all.map(\.name).joined(separator: " "))
            }
            return [("", try Layer(text, batch: batch ?? 8))]
        }
        return try (batch.map { [$0] } ?? suite.batches).flatMap { batch in
            try suite.layers.map { (suite.name, try Layer($0, batch: batch)) }
        }
    }
}
