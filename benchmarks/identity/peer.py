"""The peer: fastapi-users as its documentation sets it up, with our password hash, on SQLite."""

import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.jwt import decode_jwt, generate_jwt
from fastapi_users.password import PasswordHelper
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

SECRET = "a secret of the benchmark alone, of a good length"  # noqa: S105
ADMIN = ("admin@example.com", "correct horse battery staple")
HELPER = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),)))


class Base(DeclarativeBase):
    """The tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """An account."""


class UserRead(schemas.BaseUser[uuid.UUID]):
    """An account on the wire."""


class UserUpdate(schemas.BaseUserUpdate):
    """A change of an account."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """Reads and checks accounts."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


def create_app() -> FastAPI:
    """Return the application; its database is filled at the start."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['PEER_DATABASE']}")
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def get_user_db() -> AsyncIterator[SQLAlchemyUserDatabase[User, uuid.UUID]]:
        async with sessions() as session:
            yield SQLAlchemyUserDatabase(session, User)

    async def get_manager(
        database: SQLAlchemyUserDatabase[User, uuid.UUID] = Depends(get_user_db),  # noqa: B008
    ) -> AsyncIterator[UserManager]:
        yield UserManager(database, HELPER)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with sessions() as session:
            await _fill(session, int(os.environ["PEER_ACCOUNTS"]))
        yield
        await engine.dispose()

    backend = AuthenticationBackend(
        name="jwt",
        transport=BearerTransport(tokenUrl="auth/jwt/login"),
        get_strategy=lambda: JWTStrategy(secret=SECRET, lifetime_seconds=3600),
    )
    users = FastAPIUsers[User, uuid.UUID](get_manager, [backend])
    app = FastAPI(lifespan=lifespan)
    app.include_router(users.get_auth_router(backend), prefix="/auth/jwt")
    app.include_router(users.get_users_router(UserRead, UserUpdate), prefix="/users")
    return app


async def _fill(session: AsyncSession, accounts: int) -> None:
    email, password = ADMIN
    hashed = HELPER.hash(password)
    session.add(User(email=email, hashed_password=hashed, is_superuser=True))
    session.add_all(User(email=f"user{number}@example.com", hashed_password=hashed) for number in range(accounts))
    await session.commit()


def measure_verification(rounds: int) -> dict[str, list[float]]:
    """Return seconds of each check of a token, by algorithm; what comes after it, a query for the user, is left out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    audience = ["fastapi-users:auth"]
    measured = {}
    for algorithm, secret, verifying in (("HS256", SECRET, SECRET), ("RS256", private, public)):
        token = generate_jwt({"sub": str(uuid.uuid4()), "aud": audience}, secret, 3600, algorithm=algorithm)
        measured[algorithm] = []
        for _ in range(rounds):
            started = time.perf_counter()
            decode_jwt(token, verifying, audience, algorithms=[algorithm])
            measured[algorithm].append(time.perf_counter() - started)
    return measured


if __name__ == "__main__":
    print(json.dumps(measure_verification(int(sys.argv[1]))))
