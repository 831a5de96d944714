/// A tensor that belongs to a module's state but isn't trained, such as the running mean of a batch normalisation.
public final class Buffer {
    /// How the value is stored in files.
    public enum Storage: String, Sendable {
        case float32
        /// Whole numbers; exact up to 2²⁴ in memory.
        case int64
    }

    public let storage: Storage
    /// The key in the state dictionary; nil: the name of the property that holds the buffer.
    public let key: String?

    private var stored: Tensor

    /// - Parameter key: the key in the state dictionary, where it differs from the property's name.
    public init(_ value: Tensor, storage: Storage = .float32, key: String? = nil) {
        stored = value.detached()
        self.storage = storage
        self.key = key
    }

    public var shape: Shape { stored.shape }

    /// The elements, outside any tape; the shape can't change.
    public var value: Tensor {
        _read { yield stored }
        _modify {
            let shape = stored.shape
            defer {
                precondition(
                    stored.shape == shape,
                    "a buffer of shape \(shape) can't take a value of shape \(stored.shape)")
                stored.node = nil
            }
            yield &stored
        }
    }
}
