"""The end of sessions, by the one clock that tells it, whoever ends them."""

from collections.abc import Sequence
from uuid import UUID

from servicekit.shared_clock import shared_now
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.tables import SessionRow


async def end_sessions_where(transaction: AsyncSession, *which: ColumnElement[bool]) -> Sequence[UUID]:
    """End the sessions of which all of `which` is true, and return their ids.

    They are locked in one order: two who end the same ones would wait for each other.
    """
    unended = select(SessionRow.id).where(*which, SessionRow.ended_at.is_(None))
    locked = unended.order_by(SessionRow.id).with_for_update(key_share=True)
    end = update(SessionRow).where(SessionRow.id.in_(locked)).values(ended_at=shared_now()).returning(SessionRow.id)
    return (await transaction.scalars(end.execution_options(synchronize_session=False))).all()
