"""JM-Pose: joint-motion mutual learning (Wu et al., ACM Multimedia 2024). Equations are the paper's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidpose.errors import InputError
from vidpose.models.attention import attend
from vidpose.models.flow import FlowEncoder, create_flow
from vidpose.models.hrnet import BasicBlock, conv_bn
from vidpose.models.information import MutualInformation, Term
from vidpose.models.layers import ModulatedSampling, one_of, residual_chain
from vidpose.models.single_frame import ConvHead, heatmap_layer
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features, heatmap_loss

OBJECTIVE = (  # Eq. 13
    # silent: which side of a term learns; here joint and motion both do. As a target the initial heatmaps are
    # detached; what makes them learns through the joint feature alone.
    Term("motion", "joint", +1, both_ways=True),  # relevancy
    Term("joint", "initial", -1),  # complement
    # redundancy I(H;J|M) by the chain rule, I(H;[J,M]) - I(H;M). Simplified as TDMI does, to I(H;J) - I(J;M),
    # the three terms of Eq. 13 would cancel to 0.
    Term("both", "initial", +1),
    Term("motion", "initial", -1),
)

# What alpha = 1 multiplies. alpha is not printed, and a KL in nats is thousands of times the number that
# public code computes: these make the gradient of the MI part (4 layers) 0.1 to 1 times that of the heatmap
# loss at initialisation. Measured with information.gradient_norm on augmented synthetic people, true joints
# moved by about a heatmap pixel as initial heatmaps; motion from differences / DIS flow:
#   club      0.10 / 0.28 (w16_small, 128x96)  0.39 / 0.31 (w32, 192x160)  0.58 / 0.79 (w48, 384x288)
#   kl        0.16 / 0.40                      0.42 / 0.36
#   released  0.14 / 0.96                      0.20 / 0.20                  - / 0.07
# Without interaction blocks there is one layer, and the part is a third.
OBJECTIVE_SCALE = {"club": 8e-5, "kl": 8e-5, "released": 0.03}
FIT_SCALE = 5e-4  # of the loss of the estimator's own heads: small, so that clipping does not see it

HEATMAP_GAIN = 8.0  # of the initial weights that read heatmaps, in Eq. 2


class JMPose(PoseModel):
    """Initial heatmaps guide a joint feature out of motion; joint and motion then refine each other.

    Args:
        backbone: HRNet with feature ``stage4`` at a quarter of the input.
        motion: what motion is encoded from: ``"flow"`` (Eq. 1) or ``"difference"`` of features (JM-Pose*).
        flow: ``"auto"``, ``"raft"`` or ``"dis"`` where ``motion="flow"``; any other function can be put in
            ``model.head.encoder.flow``.
        cjl: the context-aware joint learner; without it the initial heatmaps take the place of its feature.
        jmml: joint-motion mutual learning; without it the head sees the joint feature alone.
        jmib: the interaction blocks of JMML; without them the objective acts on what CJL gives.
        information_objective: the information orthogonality objective of JMML (Eq. 13).
        layers: L, the number of interaction blocks.
        attention: over what they attend: ``"channel"`` or ``"spatial"``, quadratic in heatmap pixels.
        estimator: of mutual information, see :class:`vidpose.models.information.MutualInformation`.
        alpha: weight of the objective (Eq. 16).
        width: working channels; ``None``: as many as the backbone has, 48 for HRNet-W48.
    """

    name = "jmpose"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 5,
        num_joints: int = 15,
        input_size: tuple[int, int] = (384, 288),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        motion: str = "flow",
        flow: str = "auto",
        cjl: bool = True,
        jmml: bool = True,
        jmib: bool = True,
        information_objective: bool = True,
        layers: int = 4,
        attention: str = "channel",
        estimator: str = "club",
        alpha: float = 1.0,
        width: int | None = None,
    ) -> None:
        channels: int = backbone.out_channels  # type: ignore[assignment]
        super().__init__(
            backbone,
            num_frames=num_frames,
            num_joints=num_joints,
            input_size=input_size,
            sigma=sigma,
            freeze_backbone=freeze_backbone,
            initial_head=ConvHead(channels, num_joints),
        )
        one_of("motion", motion, ("flow", "difference"))
        one_of("attention", attention, ("channel", "spatial"))
        width = channels if width is None else width
        if width < 2:
            raise InputError(f"width is {width}: it must be at least 2")
        if layers < 1:
            raise InputError(f"layers is {layers}: it must be at least 1; jmib=False builds no such layer")
        if not (cjl or jmml):
            raise InputError("cjl=False with jmml=False leaves no use of motion: keep one of them")
        encoder: nn.Module
        if motion == "flow":
            encoder = FlowEncoder(num_frames, width, create_flow(flow))
        else:
            encoder = DifferenceEncoder(channels, num_frames, width)
        _start_moving(encoder)
        learner = ContextAwareJointLearner(num_joints, width) if cjl else None
        blocks = [JointMotionInteraction(width, attention) for _ in range(layers if jmml and jmib else 0)]
        self.head = JMPoseHead(num_frames, num_joints, width, encoder, learner, blocks, jmml=jmml)
        self.alpha = alpha
        self.information: nn.ModuleList | None = None
        if jmml and information_objective:
            sizes = {"joint": width, "motion": width, "both": 2 * width, "initial": num_joints}
            # silent: the released estimator sends gradients of a label term into the label. The initial
            # heatmaps are given, and so are a feature to it.
            labels = () if estimator == "released" else ("initial",)
            self.information = nn.ModuleList(
                MutualInformation(OBJECTIVE, sizes, labels=labels, estimator=estimator)
                for _ in range(max(len(blocks), 1))
            )

    def extract(self, frames: Tensor) -> Features:
        features = super().extract(frames)
        if isinstance(self.head, JMPoseHead) and isinstance(self.head.encoder, FlowEncoder):
            return {**features, "frames": frames}
        return features

    def forward(self, clips: Tensor) -> PoseOutput:
        """Poses of the key frames of clips [B, T, 3, H, W]: heatmaps [B, J, H/4, W/4]."""
        return super().forward(clips)

    def losses(self, out: PoseOutput, target_heatmaps: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """``heatmap`` (Eq. 15), ``mutual_information`` (Eq. 13, summed over layers), the fit of its heads,
        ``total`` (Eq. 16).

        In eval mode only the heatmap loss is known.
        """
        heatmap = heatmap_loss(out.heatmaps, target_heatmaps, weights)  # Eq. 15
        if self.information is None or not out.extras:
            return {"heatmap": heatmap, "total": heatmap}
        found: dict[str, Tensor] = {}
        for i, layer in enumerate(self.information):
            joint, motion = out.extras[f"joint{i}"], out.extras[f"motion{i}"]
            variables = {"joint": joint, "motion": motion, "both": torch.cat([joint, motion], dim=1)}
            for name, value in layer({**variables, "initial": out.extras["initial"]}).items():  # Eq. 13
                found[name] = found[name] + value if name in found else value
        first = self.information[0]
        assert isinstance(first, MutualInformation)
        objective = OBJECTIVE_SCALE[first.estimator] * found.pop("objective")
        fit = FIT_SCALE * found.pop("fit")
        return {
            "heatmap": heatmap,
            "mutual_information": objective,
            "information_fit": fit,
            **{f"information/{name}": value for name, value in found.items()},
            "total": heatmap + self.alpha * objective + fit,  # Eq. 16
        }


class JMPoseHead(nn.Module):
    """All that JM-Pose trains: features and initial heatmaps of a clip -> heatmaps of its key frame."""

    def __init__(
        self,
        num_frames: int,
        num_joints: int,
        width: int,
        encoder: nn.Module,
        learner: ContextAwareJointLearner | None,
        blocks: list[JointMotionInteraction],
        *,
        jmml: bool,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.jmml = jmml
        self.aggregate = _aggregation(num_frames, num_joints)
        self.encoder = encoder
        self.learner = learner
        # silent: how heatmaps get the working width where there is no joint learner; one convolution.
        self.widen = conv_bn(num_joints, width, 3) if learner is None else None
        self.interactions = nn.ModuleList(blocks)
        self.fuse = conv_bn(2 * width if jmml else width, width, 3)
        # silent: "a set of 3x3 convolution layers" is two.
        self.refine = conv_bn(width, width, 3)
        self.heatmaps = heatmap_layer(width, num_joints, 3)

    def forward(self, features: Features) -> PoseOutput:
        clip = clip_features(features, self.num_frames)  # [B·T, C, h, w] -> [B, T, C, h, w]
        initial = self.aggregate(clip["heatmaps"].flatten(1, 2))  # [B, T, J, h, w] -> [B, J, h, w]
        by_flow = isinstance(self.encoder, FlowEncoder)
        motion = self.encoder(clip["frames" if by_flow else "stage4"])  # Eq. 1: M_t [B, width, h, w]
        joint = self._joint(initial, motion)  # J_t [B, width, h, w]
        pairs = [(joint, motion)]
        for block in self.interactions:
            pairs.append(block(*pairs[-1]))
        joint, motion = pairs[-1]
        seen = torch.cat([joint, motion], dim=1) if self.jmml else joint
        heatmaps = self.heatmaps(self.refine(self.fuse(seen)))  # Eq. 14
        if not self.training:
            return PoseOutput(heatmaps)
        found = {"initial": initial.detach()}
        for i, (joint, motion) in enumerate(pairs[1:] or pairs):  # without blocks: what CJL gives
            found |= {f"joint{i}": joint, f"motion{i}": motion}
        return PoseOutput(heatmaps, found)

    def _joint(self, initial: Tensor, motion: Tensor) -> Tensor:
        if self.learner is not None:
            return self.learner(initial, motion)
        assert self.widen is not None
        return self.widen(initial)


class DifferenceEncoder(nn.Module):
    """Motion from differences of the features of consecutive frames: JM-Pose* (Table 5)."""

    def __init__(self, channels: int, num_frames: int, width: int) -> None:
        super().__init__()
        # silent: how differences become motion; as many residual blocks as flow goes through.
        self.layers = residual_chain((num_frames - 1) * channels, width, 4)

    def forward(self, frames: Tensor) -> Tensor:
        """Features [B, T, C, h, w] -> motion [B, width, h, w]."""
        return self.layers((frames[:, 1:] - frames[:, :-1]).flatten(1, 2))


class ContextAwareJointLearner(nn.Module):
    """The joint feature ``J_t``: motion, sampled where the initial heatmaps guide to (Sec. 3.1).

    Heatmaps reach ``J_t`` through offsets and modulation weights alone.
    """

    def __init__(self, num_joints: int, width: int) -> None:
        super().__init__()
        self.fuse = conv_bn(num_joints + width, width, 3)
        self.sample = ModulatedSampling(width, width)
        # silent: initialisation. Weights that start alike everywhere, as is usual, and heatmaps that are 0
        # nearly everywhere beside motion that is not, would leave J_t blind to the heatmaps (0.2 % of it
        # changes with them; so 25 %).
        fuse, weight = self.fuse[0], self.sample.weight[-1]
        assert isinstance(fuse, nn.Conv2d) and isinstance(weight, nn.Conv2d)
        nn.init.normal_(weight.weight, std=weight.weight[0].numel() ** -0.5)
        with torch.no_grad():
            fuse.weight[:, :num_joints] *= HEATMAP_GAIN

    def forward(self, initial: Tensor, motion: Tensor) -> Tensor:
        """Initial heatmaps [B, J, h, w] and motion [B, width, h, w] -> joint feature [B, width, h, w]."""
        guide = self.fuse(torch.cat([initial, motion], dim=1))  # Eq. 2: R_t
        return self.sample(motion, guide)  # Eqs. 3 to 5


class JointMotionInteraction(nn.Module):
    """One joint-motion interaction block: cross-attention both ways, then masks for each other (Sec. 3.2)."""

    def __init__(self, width: int, attention: str) -> None:
        super().__init__()
        self.joint = residual_chain(width, width, 1)
        self.motion = residual_chain(width, width, 1)
        self.joint_attention = CrossAttention(width, attention)
        self.motion_attention = CrossAttention(width, attention)
        # silent: Eq. 9 has nothing before the sigmoid, and would be sigmoid(J) and sigmoid(M): no exchange.
        self.mask = nn.Sequential(conv_bn(2 * width, width, 3), nn.Conv2d(width, 2 * width, 3, padding=1))

    def forward(self, joint: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """J and M [B, width, h, w] of one layer -> those of the next."""
        joint, motion = self.joint(joint), self.motion(motion)  # Eq. 6
        joint, motion = (
            joint + self.joint_attention(joint, motion),  # Eq. 7
            motion + self.motion_attention(motion, joint),  # Eq. 8
        )
        masks = self.mask(torch.cat([joint, motion], dim=1)).sigmoid()  # Eq. 9
        joint_mask, motion_mask = masks.chunk(2, dim=1)
        return joint_mask * joint, motion_mask * motion  # Eq. 10


class CrossAttention(nn.Module):
    """``softmax(Q Kᵀ / √d) V`` between two maps: Q of one, K and V of the other.

    Args:
        width: channels of both.
        over: ``"channel"``: a channel attends to channels; ``"spatial"``: a position attends to positions,
            d = width. silent: which of the two; public code has channels, and 6912 positions would
            not fit the memory that the paper trained with.
    """

    def __init__(self, width: int, over: str) -> None:
        super().__init__()
        self.over = over
        # silent: "independent convolution layers" are 1x1; a bias of keys could cancel in the softmax.
        self.query, self.key, self.value = (nn.Conv2d(width, width, 1, bias=False) for _ in range(3))
        # silent: what is exchanged starts near nothing, so that motion does not drown the joints at first.
        nn.init.normal_(self.value.weight, std=0.001)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Two maps [B, width, h, w] -> [B, width, h, w]: what x finds in ``context``."""
        q, k, v = self.query(x).flatten(2), self.key(context).flatten(2), self.value(context).flatten(2)
        if self.over == "spatial":
            q, k, v = (tokens.transpose(1, 2) for tokens in (q, k, v))  # [B, C, h·w] -> [B, h·w, C]
        # silent: d, "the hyperparameter". Products of channels are sums over all positions; with √(h·w) the
        # softmax would be nearly one-hot, the more so the larger the input. So their mean.
        scale = 1 / q.shape[-1] if self.over == "channel" else None
        found = attend(q[:, None], k[:, None], v[:, None], scale=scale)[:, 0]
        if self.over == "spatial":
            found = found.transpose(1, 2)
        return found.unflatten(2, x.shape[2:])


def _start_moving(encoder: nn.Module) -> None:
    """Starts motion features above 0 where nothing moves: the pose is read from samples of them alone.

    silent: the paper does not say how M_t begins. From 0, samples would tell nothing of a still person.
    """
    last = [module for module in encoder.modules() if isinstance(module, BasicBlock)][-1]
    nn.init.ones_(last.bn2.bias)


def _aggregation(num_frames: int, num_joints: int) -> nn.Conv2d:
    """The convolution from heatmaps of all frames to ``Ĥ_t``, [B, T·J, h, w] -> [B, J, h, w]."""
    # silent: how frames are aggregated. One convolution leaves heatmaps what the objective takes them for; it
    # starts from the key frame's own.
    layer = nn.Conv2d(num_frames * num_joints, num_joints, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        for j in range(num_joints):
            layer.weight[j, (num_frames // 2) * num_joints + j, 1, 1] += 1
    return layer
