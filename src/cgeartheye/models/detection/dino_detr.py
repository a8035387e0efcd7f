"""DINO, a query detector (Zhang et al. 2022, "DINO: DETR with improved denoising anchor boxes").

Feature maps become levels, an encoder lets their pixels look at each other, the best pixels propose
boxes, and a decoder refines these layer by layer; no NMS follows. Horizontal boxes and oriented
ones (RHINO, Lee et al. 2023) differ in their `BoxCoder` alone.

Modules carry mmdetection's names, so that a published detector of horizontal boxes fits: `neck.*`,
`encoder.*`, `decoder.*`, `bbox_head.*` and so on; oriented ones predict the angle in another way.
Images are square and filled by what they show, with black where they are not, so there are no masks
of padding.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cgeartheye.models.detection.box_coder import BoxCoder
from cgeartheye.models.detection.criterion import Outputs
from cgeartheye.models.detection.deformable_attention import DeformableAttention, Shapes
from cgeartheye.models.detection.denoising import Denoising
from cgeartheye.models.detection.matcher import Targets
from cgeartheye.models.detection.neck import LEVELS, ChannelMapper
from cgeartheye.models.detection.position_encoding import (
    box_channels,
    box_positions,
    pixel_positions,
)

_FIRST_SIDE = 0.05  # share of the image that a proposal of the finest level has; doubled each level
_PRIOR = 0.01  # chance of a class before anything is learnt (Lin et al. 2017)


class DINO(nn.Module):
    """Turns three feature maps into boxes."""

    def __init__(
        self,
        embed_dim: int,
        classes: int,
        coder: BoxCoder,
        channels: int = 256,
        queries: int = 900,
        layers: tuple[int, int] = (6, 6),
        heads: int = 8,
        num_points: int = 4,
        ffn_dim: int = 2048,
        num_dn_queries: int = 100,
        label_noise: float = 0.25,
        box_noise_scale: float = 1.0,
    ):
        """Build a detector with random weights.

        Args:
            embed_dim: channels of every map.
            classes: K.
            coder: of the boxes.
            channels: C, inside the detector.
            queries: Q, boxes that are proposed.
            layers: of the encoder and of the decoder.
            heads: of all attention.
            num_points: that a head of deformable attention looks at in each level.
            ffn_dim: channels inside the feed-forward layers.
            num_dn_queries: noised positives of a training image; 0: none.
            label_noise: see `Denoising`.
            box_noise_scale: see `Denoising`.
        """
        super().__init__()
        self.coder, self.queries = coder, queries
        self.neck = ChannelMapper(embed_dim, channels)
        shape = channels, heads, num_points, ffn_dim
        # Only the encoder uses it: without an encoder DDP would wait for its gradient forever.
        self.level_embed = nn.Parameter(torch.randn(LEVELS, channels)) if layers[0] else None
        self.encoder = Encoder(layers[0], *shape)
        self.memory_trans_fc = nn.Linear(channels, channels)
        self.memory_trans_norm = nn.LayerNorm(channels)
        self.query_embedding = nn.Embedding(queries, channels)
        self.decoder = Decoder(layers[1], coder, *shape)
        self.bbox_head = BoxHead(classes, coder.box_dim, channels, layers[1] + 1)
        self.dn_query_generator = (
            Denoising(classes, channels, num_dn_queries, label_noise, box_noise_scale)
            if num_dn_queries
            else None
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Find boxes.

        Args:
            maps: of three layers, `[B, embed_dim, h, w]` each.

        Returns:
            Logits `[B, Q, K]` and boxes `[B, Q, numbers]` (see `BoxCoder`), float32.
        """
        outputs = self._run(maps, None)
        return outputs.logits[-1].float(), outputs.boxes[-1]

    def training_outputs(self, maps: Sequence[Tensor], truth: Targets) -> Outputs:
        """Return what the losses are taken of; draws from torch's generator."""
        return self._run(maps, truth)

    def _run(self, maps: Sequence[Tensor], truth: Targets | None) -> Outputs:
        levels = self.neck(maps)
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        memory = _flat(levels)
        if self.level_embed is not None:
            positions = _positions(shapes, self.level_embed)
            memory = self.encoder(memory, positions, shapes)
        logits, boxes, start = self._propose(memory, shapes)
        count = start.shape[1]
        queries = self.query_embedding.weight[:count].expand(memory.shape[0], -1, -1)
        noised = None
        attn_mask = None
        if truth is not None and self.dn_query_generator is not None:
            noised = self.dn_query_generator(truth, count)
            queries = torch.cat([noised.queries.to(queries.dtype), queries], 1)
            start = torch.cat([noised.boxes, start], 1)
            attn_mask = noised.attn_mask
        states, references = self.decoder(
            queries, start, memory, shapes, attn_mask, self.bbox_head.reg_branches
        )
        head = self.bbox_head
        all_logits = [head.cls_branches[n](state) for n, state in enumerate(states)]
        all_boxes = [
            self.coder.refine(reference, head.reg_branches[n](state).float())
            for n, (state, reference) in enumerate(zip(states, references, strict=True))
        ]
        extra = start.shape[1] - count
        return Outputs(
            torch.stack([logits, *(part[:, extra:] for part in all_logits)]),
            torch.stack([boxes, *(part[:, extra:] for part in all_boxes)]),
            noised,
            torch.stack([part[:, :extra] for part in all_logits]),
            torch.stack([part[:, :extra] for part in all_boxes]),
        )

    def _propose(self, memory: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and boxes of the best pixels' proposals, and where the decoder begins."""
        head = self.bbox_head
        states = self.memory_trans_norm(self.memory_trans_fc(memory))
        logits = head.cls_branches[-1](states)
        count = min(self.queries, logits.shape[1])
        best = logits.amax(-1).topk(count, dim=1).indices[..., None]
        anchors = _anchors(shapes, self.coder.box_dim, memory.device).expand(
            memory.shape[0], -1, -1
        )
        anchors = anchors.gather(1, best.expand(-1, -1, anchors.shape[-1]))
        # Only the best are refined: their changes are a 20th of all.
        change = head.reg_branches[-1](states.gather(1, best.expand(-1, -1, states.shape[-1])))
        boxes = self.coder.refine(anchors, change.float())
        return logits.gather(1, best.expand(-1, -1, logits.shape[-1])), boxes, boxes.detach()


class Encoder(nn.Module):
    """Lets the pixels of all levels look at each other."""

    def __init__(self, count: int, channels: int, heads: int, num_points: int, ffn_dim: int):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(channels, heads, num_points, ffn_dim) for _ in range(count)
        )

    def forward(self, x: Tensor, positions: Tensor, shapes: Shapes) -> Tensor:
        """Encode the pixels of all levels, `[B, S, C]`.

        Args:
            x: pixels of all levels, `[B, S, C]`.
            positions: their encoding, `[S, C]`.
            shapes: rows and columns of each level.
        """
        centers = _anchors(shapes, 4, x.device)[None, :, :2].expand(x.shape[0], -1, -1)
        for layer in self.layers:
            x = layer(x, positions, centers, shapes)
        return x


class EncoderLayer(nn.Module):
    """Deformable attention and a feed-forward layer, each followed by its norm."""

    def __init__(self, channels: int, heads: int, num_points: int, ffn_dim: int):
        super().__init__()
        self.self_attn = DeformableAttention(channels, heads, LEVELS, num_points)
        self.ffn = FeedForward(channels, ffn_dim)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(self, x: Tensor, positions: Tensor, centers: Tensor, shapes: Shapes) -> Tensor:
        """Transform the pixels of all levels, `[B, S, C]`.

        Args:
            x: pixels of all levels, `[B, S, C]`.
            positions: their encoding, `[S, C]`.
            centers: of the pixels in shares of the image, `[B, S, 2]`.
            shapes: rows and columns of each level.
        """
        x = self.norms[0](x + self.self_attn(x + positions, centers, x, shapes))
        out: Tensor = self.norms[1](x + self.ffn(x))
        return out


class Decoder(nn.Module):
    """Refines boxes layer by layer."""

    def __init__(
        self, count: int, coder: BoxCoder, channels: int, heads: int, num_points: int, ffn_dim: int
    ):
        super().__init__()
        self.coder, self.channels = coder, channels
        self.layers = nn.ModuleList(
            DecoderLayer(channels, heads, num_points, ffn_dim) for _ in range(count)
        )
        self.ref_point_head = MLP(box_channels(coder.box_dim, channels), channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        boxes: Tensor,
        memory: Tensor,
        shapes: Shapes,
        attn_mask: Tensor | None,
        refinements: nn.ModuleList,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Refine.

        Args:
            x: queries `[B, Q, C]`.
            boxes: that they begin with `[B, Q, numbers]`.
            memory: the encoder's pixels `[B, S, C]`.
            shapes: of the levels.
            attn_mask: which query must not see which, bool `[Q, Q]`.
            refinements: of each layer, from a query to a change of its box.

        Returns:
            The queries after each layer `[B, Q, C]`, and the boxes that each layer began with. The
            gradient reaches the layer before the one that made them ("look forward twice").
        """
        states, references = [], [boxes]
        for layer, refinement in zip(self.layers, refinements, strict=False):
            positions = self.ref_point_head(box_positions(boxes, self.channels).to(x.dtype))
            x = layer(x, positions, boxes, memory, shapes, attn_mask)
            refined = self.coder.refine(boxes, refinement(x).float())
            boxes = refined.detach()
            states.append(self.norm(x))
            references.append(refined)
        return states, references[:-1]


class DecoderLayer(nn.Module):
    """Attention among the queries, deformable attention to the pixels, a feed-forward layer."""

    def __init__(self, channels: int, heads: int, num_points: int, ffn_dim: int):
        super().__init__()
        self.self_attn = SelfAttention(channels, heads)
        self.cross_attn = DeformableAttention(channels, heads, LEVELS, num_points)
        self.ffn = FeedForward(channels, ffn_dim)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        boxes: Tensor,
        memory: Tensor,
        shapes: Shapes,
        attn_mask: Tensor | None,
    ) -> Tensor:
        """Transform queries, `[B, Q, C]`.

        Args:
            x: queries, `[B, Q, C]`.
            positions: encoding of their boxes, `[B, Q, C]`.
            boxes: in shares of the image, `[B, Q, 4 or 5]`.
            memory: encoded pixels of all levels, `[B, S, C]`.
            shapes: rows and columns of each level.
            attn_mask: which query must not see which, bool `[Q, Q]`; none: all see all.
        """
        x = self.norms[0](x + self.self_attn(x, positions, attn_mask))
        x = self.norms[1](x + self.cross_attn(x + positions, boxes, memory, shapes))
        out: Tensor = self.norms[2](x + self.ffn(x))
        return out


class SelfAttention(nn.Module):
    """Attention among queries; named as mmdetection wraps it."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor, positions: Tensor, attn_mask: Tensor | None) -> Tensor:
        """Let queries attend to each other, `[B, Q, C]`.

        Args:
            x: queries, `[B, Q, C]`.
            positions: encoding of their boxes, `[B, Q, C]`.
            attn_mask: which query must not see which, bool `[Q, Q]`; none: all see all.
        """
        placed = x + positions
        out: Tensor = self.attn(placed, placed, x, attn_mask=attn_mask, need_weights=False)[0]
        return out


class FeedForward(nn.Module):
    """Two linear layers; named as mmcv nests them."""

    def __init__(self, channels: int, ffn_dim: int):
        super().__init__()
        linear = nn.Linear(channels, ffn_dim), nn.Linear(ffn_dim, channels)
        for each in linear:
            nn.init.xavier_uniform_(each.weight)
        self.layers = nn.ModuleList([nn.Sequential(linear[0], nn.ReLU()), linear[1]])

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., C]` to `[..., C]`."""
        out: Tensor = self.layers[1](self.layers[0](x))
        return out


class MLP(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, inputs: int, hidden_dim: int, outputs: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, hidden_dim), nn.Linear(hidden_dim, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., inputs]` to `[..., outputs]`."""
        out: Tensor = self.layers[1](self.layers[0](x).relu())
        return out


class BoxHead(nn.Module):
    """From queries to classes and changes of boxes: for each layer, and last for the proposals."""

    def __init__(self, classes: int, box_dim: int, channels: int, count: int):
        super().__init__()
        classify = nn.Linear(channels, classes)
        nn.init.constant_(classify.bias, -math.log(1 / _PRIOR - 1))
        last = nn.Linear(channels, box_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.cls_branches = nn.ModuleList(copy.deepcopy(classify) for _ in range(count))
        self.reg_branches = nn.ModuleList(
            nn.Sequential(
                nn.Linear(channels, channels),
                nn.ReLU(),
                nn.Linear(channels, channels),
                nn.ReLU(),
                copy.deepcopy(last),
            )
            for _ in range(count)
        )


def _positions(shapes: Shapes, level_embed: Tensor) -> Tensor:
    """Positions of the pixels of all levels, `[S, C]`."""
    channels, device = level_embed.shape[1], level_embed.device
    parts = [
        pixel_positions(rows, columns, channels, device) + level
        for (rows, columns), level in zip(shapes, level_embed, strict=True)
    ]
    return torch.cat(parts)


def _anchors(shapes: Shapes, box_dim: int, device: torch.device) -> Tensor:
    """A box at each pixel of all levels, `[S, numbers]`, in shares of the image."""
    levels = []
    for number, (rows, columns) in enumerate(shapes):
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        level = torch.zeros(rows, columns, box_dim, device=device)
        level[..., 0], level[..., 1] = x, y[:, None]
        level[..., 2:4] = _FIRST_SIDE * 2**number
        levels.append(level.flatten(0, 1))
    return torch.cat(levels)


def _flat(levels: Sequence[Tensor]) -> Tensor:
    """Pixels of all levels one behind the other, `[B, S, C]`."""
    return torch.cat([level.flatten(2).mT for level in levels], 1)
